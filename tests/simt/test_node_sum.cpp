// node_sum and norm_relu, both ways, on every path and in every type, against float64; gradients
// that nobody wants are not written; channels of equal values and far from 0.
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
  template <typename T>
  Oracle(const Case& c, const std::vector<Buffer<T>>& inputs, const Buffer<float>& weight,
         const Buffer<T>& grad)
      : y(c.pixels * c.channels), of_weight(c.normed.size()) {
    const auto n = static_cast<double>(c.pixels);
    for (std::size_t k = 0; k < c.normed.size(); ++k) {
      of_input.emplace_back(c.pixels * c.channels);
      for (std::int64_t channel = 0; channel < c.channels; ++channel) {
        const auto x = [&](std::int64_t p) -> double {
          return value_of(inputs[k][p * c.channels + channel]);
        };
        double sum = 0, squares = 0;
        for (std::int64_t p = 0; p < c.pixels; ++p) sum += x(p);
        for (std::int64_t p = 0; p < c.pixels; ++p) squares += (x(p) - sum / n) * (x(p) - sum / n);
        mean.push_back(c.normed[k] ? sum / n : 0);
        rstd.push_back(c.normed[k] ? 1 / std::sqrt(squares / n + kEps) : 1);
        const auto h = [&](std::int64_t p) { return (x(p) - mean.back()) * rstd.back(); };
        const auto g = [&](std::int64_t p) -> double {
          return c.relu && !(h(p) > 0) ? 0 : value_of(grad[p * c.channels + channel]);
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

// Half a unit in the last place of a number by 1: what rounding to nearest takes away.
template <typename T>
constexpr double kRounding = 0;  // part of what float32 sums are off by
template <>
constexpr double kRounding<Half> = 1. / (1 << 11);
template <>
constexpr double kRounding<BFloat16> = 1. / (1 << 8);

// To 5e-6 of the largest of the numbers (at least `floor`), which sums in float32 are off by in any
// type, and `roundings` of each number to its type; 2^-25 is half a float16's smallest step.
template <typename T>
static void near(const char* what, const Buffer<T>& got, const std::vector<double>& want,
                 double floor = 1e-3, int roundings = 1) {
  double largest = floor;
  for (const double x : want) largest = std::max(largest, std::abs(x));
  const double sums = 5e-6 * largest;
  for (std::int64_t i = 0; i < got.size(); ++i) {
    const double expected = want[static_cast<std::size_t>(i)], value = value_of(got[i]);
    // Each rounding but the last is of a part of the sum.
    const double rounded = std::abs(expected) + sums + (roundings - 1) * largest;
    const double bound = sums + kRounding<T> * rounded + (kRounding<T> > 0 ? 1. / (1 << 25) : 0);
    CHECK(std::abs(value - expected) <= bound, "%s %s[%ld] is %.9g, not %.9g", kName<T>, what, i,
          value, expected);
  }
}

template <typename T>
static bool untouched(const T& x) {
  return reinterpret_cast<const unsigned char&>(x) == 0xff;
}

template <typename T>
static void one(const Case& c) {
  const auto number = static_cast<std::int64_t>(c.normed.size());
  const std::int64_t size = c.pixels * c.channels;
  std::mt19937 random_bits(static_cast<unsigned>(size + number));
  std::normal_distribution<float> normal(0, 1);
  std::vector<Buffer<T>> inputs;
  Buffer<float> weight(number);
  Buffer<T> grad(size, c.offset);
  for (std::int64_t k = 0; k < number; ++k) {
    inputs.emplace_back(size, c.offset);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t channel = i % c.channels;
      store(inputs.back()[i], normal(random_bits) * static_cast<float>(1 + k % 3) +
                                  static_cast<float>(channel % 5 == 1 ? 20 : k % 2));
    }
    weight[k] = c.relu ? 1.f : static_cast<float>(k + 1) / static_cast<float>(number) - .3f;
  }
  for (T& g : grad) store(g, normal(random_bits));
  const Oracle oracle(c, inputs, weight, grad);

  in_every_order([&] {
    Buffer<T> y(size, c.offset);
    Buffer<float> mean(number * c.channels), rstd(number * c.channels), of_weight(number);
    std::vector<Buffer<T>> of_input;
    of_input.reserve(c.normed.size());  // their addresses stay
    std::vector<const T*> input;
    std::vector<T*> grad_input;
    for (std::int64_t k = 0; k < number; ++k) {
      of_input.emplace_back(size, c.offset);
      input.push_back(inputs[static_cast<std::size_t>(k)].data());
      const bool needed = c.needed[static_cast<std::size_t>(k)];
      grad_input.push_back(needed ? of_input.back().data() : nullptr);
    }
    const NodeInputs<T> node{input.data(), c.normed, number, c.pixels, c.channels};
    Buffer<char> scratch(node_sum_scratch_bytes(number, c.pixels, c.channels));
    CHECK(launch_node_sum(node, weight.data(), static_cast<float>(kEps), c.relu, y.data(),
                          mean.data(), rstd.data(), scratch.data(), nullptr) == cudaSuccess,
          "launch");
    near("y", y, oracle.y, 1e-3, static_cast<int>(ceil_div(number, kMostInputs)));
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
        CHECK(untouched(of_input[k][size / 2]), "dx %zu was written", k);
      }
    }
  });
}

// Slices and channels of equal values have a variance of 0.
template <typename T>
static void constant() {
  const std::int64_t pixels = 500, channels = 4;
  Buffer<T> x(pixels * channels), y(pixels * channels);
  Buffer<float> mean(channels), rstd(channels), weight(1);
  for (T& value : x) store(value, 7.3f);
  weight[0] = 1;
  const T* const input = x.data();
  const NodeInputs<T> node{&input, {true}, 1, pixels, channels};
  Buffer<char> scratch(node_sum_scratch_bytes(1, pixels, channels));
  CHECK(launch_node_sum(node, weight.data(), static_cast<float>(kEps), false, y.data(), mean.data(),
                        rstd.data(), scratch.data(), nullptr) == cudaSuccess,
        "launch");
  for (const T value : y)
    CHECK(value_of(value) == 0, "a constant channel gives %g", value_of(value));
}

// What the kernels write is what rounding to nearest, ties to even, makes of a float.
template <typename T>
static void rounds(std::initializer_list<std::pair<float, unsigned short>> numbers) {
  for (const auto& [x, bits] : numbers) {
    T got;
    bdp_ext::store(&got, x);
    CHECK(got.bits == bits, "%s(%g) is %#x, not %#x", kName<T>, x, got.bits, bits);
  }
}

template <typename T>
static void all() {
  const std::vector<bool> mixed = {true, false, true, true, false};
  const std::vector<bool> all(5, true);
  for (const std::int64_t channels : {4, 16, 64, 17, 1, 300, 1100}) {
    const std::int64_t pixels = channels > 100 ? 9 : 200;
    one<T>({pixels, channels, mixed, all});
    one<T>({pixels, channels, {true}, {true}, false, true});
  }
  one<T>({333, 16, mixed, {false, true, false, true, false}});
  one<T>({333, 16, mixed, {false, true, false, true, false}, false});
  one<T>({333, 16, mixed, {false, true, false, false, false}, false});  // no sums are needed
  one<T>({333, 16, mixed, std::vector<bool>(5, false)});                // nothing but the weight's
  one<T>({333, 16, mixed, all, true, false, 1});                        // not aligned to 16 bytes
  one<T>({1, 8, {false}, {true}});
  one<T>({333, 12, {true}, {true}, false, true, 1});
  simt::options.multiprocessors = 1;  // few slices
  one<T>({700, 8, mixed, all});
  simt::options.multiprocessors = 80;  // many
  one<T>({4000, 8, mixed, all});
  std::vector<bool> many(67, true);  // more than a launch takes
  many[3] = many[35] = many[65] = false;
  one<T>({60, 4, many, std::vector<bool>(67, true)});
  constant<T>();
}

int main() {
  all<float>();
#if !defined(SIMT_FLOAT_ONLY)
  all<Half>();
  all<BFloat16>();
  rounds<Half>({{1.f, 0x3c00},
                {-2.f, 0xc000},
                {1 + 1.f / 2048, 0x3c00},  // a tie, to even
                {1 + 3.f / 2048, 0x3c02},
                {2047.f / 2048 + 1, 0x4000},  // into the next exponent
                {65519.f, 0x7bff},
                {65520.f, 0x7c00},
                {0x1p-24f, 1},
                {0x1p-25f, 0},
                {0x3p-25f, 2},
                {-0.f, 0x8000},
                {NAN, 0x7fff}});
  rounds<BFloat16>({{1.f, 0x3f80},
                    {-2.f, 0xc000},
                    {1 + 1.f / 256, 0x3f80},
                    {1 + 3.f / 256, 0x3f82},
                    {3.4e38f, 0x7f80},
                    {INFINITY, 0x7f80},
                    {NAN, 0x7fff}});
#endif
  std::printf("node_sum: %ld launches\n", simt::launches);
}
