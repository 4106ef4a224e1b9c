// node_sum and norm_relu, both ways and on every path, against float64; gradients that nobody wants
// are not written; channels of equal values and far from 0.
#include "check.h"
#include "node_sum_backward.cuh"
#include "node_sum_forward.cuh"

using namespace check;

constexpr double kEps = 1e-5;

struct Case {
  std::int64_t pixels, channels;
  std::vector<bool> normed;  // an input each
  std::vector<bool> needed;  // whose gradients are wanted
  bool need_weight = true, relu = false;
  int offset = 0;  // of the tensors from a 16-byte boundary
};

// In float64 throughout, from the inputs and the weight alone.
struct Oracle {
  Oracle(const Case& c, const std::vector<Buffer<float>>& inputs, const Buffer<float>& weight,
         const Buffer<float>& grad)
      : y(c.pixels * c.channels), of_weight(c.normed.size()) {
    const auto n = static_cast<double>(c.pixels);
    for (std::size_t k = 0; k < c.normed.size(); ++k) {
      of_input.emplace_back(c.pixels * c.channels);
      for (std::int64_t channel = 0; channel < c.channels; ++channel) {
        const auto x = [&](std::int64_t p) -> double {
          return inputs[k][p * c.channels + channel];
        };
        double sum = 0, squares = 0;
        for (std::int64_t p = 0; p < c.pixels; ++p) sum += x(p);
        for (std::int64_t p = 0; p < c.pixels; ++p) squares += (x(p) - sum / n) * (x(p) - sum / n);
        mean.push_back(c.normed[k] ? sum / n : 0);
        rstd.push_back(c.normed[k] ? 1 / std::sqrt(squares / n + kEps) : 1);
        const auto h = [&](std::int64_t p) { return (x(p) - mean.back()) * rstd.back(); };
        const auto g = [&](std::int64_t p) -> double {
          return c.relu && !(h(p) > 0) ? 0 : grad[p * c.channels + channel];
        };
        double of_grad = 0, product = 0;
        for (std::int64_t p = 0; p < c.pixels; ++p) {
          y[p * c.channels + channel] += weight[static_cast<std::int64_t>(k)] * h(p);
          of_grad += g(p);
          product += g(p) * h(p);
        }
        of_weight[k] += product;
        for (std::int64_t p = 0; p < c.pixels; ++p) {
          of_input[k][p * c.channels + channel] =
              weight[static_cast<std::int64_t>(k)] * rstd.back() *
              (c.normed[k] ? g(p) - of_grad / n - h(p) * product / n : g(p));
        }
      }
    }
    for (double& value : y) value = c.relu && value < 0 ? 0 : value;
  }
  std::vector<double> y, of_weight, mean, rstd;
  std::vector<std::vector<double>> of_input;
};

// To 5e-6 of the largest of the numbers, and no more than 1e-3 where that is 1e-3 of 1.
static void near(const char* what, const Buffer<float>& got, const std::vector<double>& want,
                 double floor = 1e-3) {
  double largest = floor;
  for (const double x : want) largest = std::max(largest, std::abs(x));
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double expected = want[static_cast<std::size_t>(i)];
    CHECK(std::abs(got[i] - expected) <= 5e-6 * largest, "%s[%ld] is %.9g, not %.9g", what, i,
          got[i], expected);
  }
}

static void one(const Case& c) {
  const auto number = static_cast<std::int64_t>(c.normed.size());
  const std::int64_t size = c.pixels * c.channels;
  std::mt19937 random_bits(static_cast<unsigned>(size + number));
  std::normal_distribution<float> normal(0, 1);
  std::vector<Buffer<float>> inputs;
  Buffer<float> weight(number), grad(size, c.offset);
  for (std::int64_t k = 0; k < number; ++k) {
    inputs.emplace_back(size, c.offset);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t channel = i % c.channels;
      inputs.back()[i] = normal(random_bits) * static_cast<float>(1 + k % 3) +
                         static_cast<float>(channel % 5 == 1 ? 20 : k % 2);
    }
    weight[k] = c.relu ? 1.f : static_cast<float>(k + 1) / static_cast<float>(number) - .3f;
  }
  for (float& g : grad) g = normal(random_bits);
  const Oracle oracle(c, inputs, weight, grad);

  in_every_order([&] {
    Buffer<float> y(size, c.offset), mean(number * c.channels), rstd(number * c.channels),
        of_weight(number);
    std::vector<Buffer<float>> of_input;
    of_input.reserve(c.normed.size());  // their addresses stay
    std::vector<const float*> input;
    std::vector<float*> grad_input;
    for (std::int64_t k = 0; k < number; ++k) {
      of_input.emplace_back(size, c.offset);
      input.push_back(inputs[static_cast<std::size_t>(k)].data());
      const bool needed = c.needed[static_cast<std::size_t>(k)];
      grad_input.push_back(needed ? of_input.back().data() : nullptr);
    }
    const NodeInputs node{input.data(), c.normed, number, c.pixels, c.channels};
    Buffer<char> scratch(node_sum_scratch_bytes(number, c.pixels, c.channels));
    CHECK(launch_node_sum(node, weight.data(), static_cast<float>(kEps), c.relu, y.data(),
                          mean.data(), rstd.data(), scratch.data(), nullptr) == cudaSuccess,
          "launch");
    near("y", y, oracle.y);
    near("mean", mean, oracle.mean, 1);
    near("rstd", rstd, oracle.rstd);

    std::fill(scratch.begin(), scratch.end(), '\xff');
    CHECK(launch_node_sum_backward(
              node, weight.data(), mean.data(), rstd.data(), grad.data(), c.relu, grad_input.data(),
              c.need_weight ? of_weight.data() : nullptr, scratch.data(), nullptr) == cudaSuccess,
          "launch");
    // The sums of products may cancel: a thousandth of their terms' size is allowed for.
    if (c.need_weight) near("dw", of_weight, oracle.of_weight, static_cast<double>(size) / 50);
    for (std::size_t k = 0; k < c.normed.size(); ++k) {
      if (c.needed[k]) {
        near("dx", of_input[k], oracle.of_input[k]);
      } else {
        CHECK(__float_as_uint(of_input[k][size / 2]) == 0xffffffffu, "dx %zu was written", k);
      }
    }
  });
}

// Slices and channels of equal values have a variance of 0.
static void constant() {
  const std::int64_t pixels = 500, channels = 4;
  Buffer<float> x(pixels * channels), y(pixels * channels), mean(channels), rstd(channels),
      weight(1);
  for (float& value : x) value = 7.3f;
  weight[0] = 1;
  const float* const input = x.data();
  const NodeInputs node{&input, {true}, 1, pixels, channels};
  Buffer<char> scratch(node_sum_scratch_bytes(1, pixels, channels));
  CHECK(launch_node_sum(node, weight.data(), static_cast<float>(kEps), false, y.data(), mean.data(),
                        rstd.data(), scratch.data(), nullptr) == cudaSuccess,
        "launch");
  for (const float value : y) CHECK(value == 0.f, "a constant channel gives %g", value);
}

int main() {
  const std::vector<bool> mixed = {true, false, true, true, false};
  const std::vector<bool> all(5, true);
  for (const std::int64_t channels : {4, 16, 64, 17, 1, 300, 1100}) {
    const std::int64_t pixels = channels > 100 ? 9 : 200;
    one({pixels, channels, mixed, all});
    one({pixels, channels, {true}, {true}, false, true});
  }
  one({333, 16, mixed, {false, true, false, true, false}});
  one({333, 16, mixed, {false, true, false, true, false}, false});
  one({333, 16, mixed, {false, true, false, false, false}, false});  // no sums are needed
  one({333, 16, mixed, std::vector<bool>(5, false)});                // nothing but the weight's
  one({333, 16, mixed, all, true, false, 1});                        // not aligned to 16 bytes
  one({1, 8, {false}, {true}});
  one({333, 12, {true}, {true}, false, true, 1});
  simt::options.multiprocessors = 1;  // few slices
  one({700, 8, mixed, all});
  simt::options.multiprocessors = 80;  // many
  one({4000, 8, mixed, all});
  std::vector<bool> many(37, true);  // more than a launch takes
  many[3] = many[35] = false;
  one({60, 4, many, std::vector<bool>(37, true)});
  constant();
  std::printf("node_sum: %ld launches\n", simt::launches);
}
