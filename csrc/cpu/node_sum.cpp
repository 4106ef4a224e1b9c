// node_sum and norm_relu on the CPU; the second is the sum of one input, with a ReLU behind it.
//
// Both ways take two passes over memory: one for sums over each channel's pixels (moments of the
// inputs; products with the gradient), one that writes. Pixels are cut into slices, as many
// whatever the number of threads, and the slices' sums are added in order: the result is always
// the same.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops.h"

namespace bdp_ext {
constexpr int64_t kNodePeriod = 64;  // the largest kStep: periods are its multiples
}

#define BDP_KERNELS "cpu/node_sum_kernel.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {
namespace {

constexpr int64_t kGrain = 32768;     // floats that a slice reads at least
constexpr int64_t kMostSlices = 64;   // as many threads find work
constexpr int64_t kBlock = 4096;      // floats of y or its gradient that stay in the first cache
constexpr int64_t kFirstPixels = 64;  // their mean is what the moments are shifted by
// Floats from which gradients are written past the cache: it cannot keep them until they are read,
// and a plain store reads first what it overwrites (8 x 1 MB and a reader behind: 1.2x faster).
constexpr int64_t kStreamed = 3 << 19;
constexpr double kFarShift = 16;  // variances from the mean: there a shift costs a digit

// The pixels of one node in slices of whole periods, the last one with what is left.
class Slices {
 public:
  explicit Slices(const NodeInputs<float>& node)
      : period(std::lcm(node.channels, kNodePeriod)),
        size(node.pixels * node.channels),
        rows_(size / period),
        number(std::clamp<int64_t>(node.number * size / kGrain, 1, kMostSlices)) {}

  int64_t Begin(int64_t slice) const { return rows_ * slice / number * period; }
  int64_t End(int64_t slice) const { return slice + 1 == number ? size : Begin(slice + 1); }

  // function(slice, begin, end) for all slices.
  template <typename Function>
  void ForEach(const Function& function) const {
    const int64_t parts = Parts(number, 1);
    ForEachPart(parts, [&](int64_t part) {
      const int64_t last = number * (part + 1) / parts;
      for (int64_t s = number * part / parts; s < last; ++s) function(s, Begin(s), End(s));
    });
  }

  const int64_t period, size;

 private:
  const int64_t rows_;

 public:
  const int64_t number;
};

// Whole periods.
int64_t BlockOf(int64_t period) { return std::max<int64_t>(kBlock / period, 1) * period; }

// Sums of a slice over its pixels, `values` a channel.
class Sums {
 public:
  Sums(const Slices& slices, int64_t channels, int64_t values)
      : slices_(slices),
        channels_(channels),
        values_(values),
        total_(slices.number * channels * values) {}

  // Adds a period's lanes up into their channels.
  void Put(int64_t slice, int64_t value, const double* lanes) {
    double* to = total_.data() + (slice * values_ + value) * channels_;
    for (int64_t i = 0; i < slices_.period; i += channels_) {
      for (int64_t c = 0; c < channels_; ++c) to[c] += lanes[i + c];
    }
  }
  double Of(int64_t value, int64_t channel) const {
    double sum = 0;
    for (int64_t s = 0; s < slices_.number; ++s) {
      sum += total_[(s * values_ + value) * channels_ + channel];
    }
    return sum;
  }

 private:
  const Slices& slices_;
  const int64_t channels_, values_;
  std::vector<double> total_;
};

// A channel's numbers for each lane of a period.
void Spread(const float* channel, int64_t channels, int64_t period, float* lanes) {
  for (int64_t i = 0; i < period; i += channels) std::copy_n(channel, channels, lanes + i);
}

void FirstMean(const float* x, int64_t pixels, int64_t channels, float* mean) {
  const int64_t first = std::min(pixels, kFirstPixels);
  std::fill_n(mean, channels, 0.0f);
  for (int64_t p = 0; p < first; ++p) {
    for (int64_t c = 0; c < channels; ++c) mean[c] += x[p * channels + c];
  }
  for (int64_t c = 0; c < channels; ++c) mean[c] /= static_cast<float>(first);
}

// mean [K, C] holds each input's shift, and in the end its mean. Returns which inputs' shifts lay
// so far from their means that the variances have lost digits: with the means as shifts they will
// not.
std::vector<bool> Moments(const NodeInputs<float>& node, const Slices& slices,
                          const std::vector<bool>& wanted, float eps, float* mean, float* rstd) {
  const auto moments = BDP_PICK(NodeMoments);
  const int64_t channels = node.channels, period = slices.period;
  std::vector<float> shift(node.number * period);
  for (int64_t k = 0; k < node.number; ++k) {
    Spread(mean + k * channels, channels, period, shift.data() + k * period);
  }
  Sums sums(slices, channels, 2 * node.number);
  slices.ForEach([&](int64_t slice, int64_t begin, int64_t end) {
    std::vector<double> lanes(2 * period);
    for (int64_t k = 0; k < node.number; ++k) {
      if (!wanted[k]) continue;
      std::fill(lanes.begin(), lanes.end(), 0.0);
      moments(node.input[k] + begin, end - begin, period, shift.data() + k * period, lanes.data(),
              lanes.data() + period);
      sums.Put(slice, 2 * k, lanes.data());
      sums.Put(slice, 2 * k + 1, lanes.data() + period);
    }
  });
  std::vector<bool> far(node.number);
  const double pixels = static_cast<double>(node.pixels);
  for (int64_t k = 0; k < node.number; ++k) {
    if (!wanted[k]) continue;
    for (int64_t c = 0; c < channels; ++c) {
      const double away = sums.Of(2 * k, c) / pixels;
      const double variance = std::max(sums.Of(2 * k + 1, c) / pixels - away * away, 0.0);
      if (away * away > kFarShift * variance) far[k] = true;
      mean[k * channels + c] = static_cast<float>(mean[k * channels + c] + away);
      rstd[k * channels + c] = static_cast<float>(1 / std::sqrt(variance + eps));
    }
  }
  return far;
}

// weight [K] times rstd [K, C], and mean, for the lanes of a period.
struct Lanes {
  Lanes(const NodeInputs<float>& node, int64_t period, const float* weight, const float* mean_of,
        const float* rstd)
      : mean(node.number * period), scale(node.number * period) {
    std::vector<float> scaled(node.channels);
    for (int64_t k = 0; k < node.number; ++k) {
      const int64_t first = k * node.channels;
      for (int64_t c = 0; c < node.channels; ++c) scaled[c] = weight[k] * rstd[first + c];
      Spread(mean_of + first, node.channels, period, mean.data() + k * period);
      Spread(scaled.data(), node.channels, period, scale.data() + k * period);
    }
  }
  std::vector<float> mean, scale;
};

}  // namespace

template <>
void NodeSum(const NodeInputs<float>& node, const float* weight, float eps, bool relu, float* y,
             float* mean, float* rstd) {
  const Slices slices(node);
  const int64_t channels = node.channels;
  for (int64_t k = 0; k < node.number; ++k) {
    std::fill_n(rstd + k * channels, channels, 1.0f);
    std::fill_n(mean + k * channels, channels, 0.0f);
    if (node.normed[k]) FirstMean(node.input[k], node.pixels, channels, mean + k * channels);
  }
  const std::vector<bool> far = Moments(node, slices, node.normed, eps, mean, rstd);
  if (std::find(far.begin(), far.end(), true) != far.end()) {
    Moments(node, slices, far, eps, mean, rstd);
  }
  const Lanes lanes(node, slices.period, weight, mean, rstd);
  const int64_t block = BlockOf(slices.period);
  const auto forward = BDP_PICK(NodeForward);
  slices.ForEach([&](int64_t, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += block) {
      forward(node.input, node.number, at, std::min(block, end - at), slices.period,
              lanes.mean.data(), lanes.scale.data(), relu, y);
    }
  });
}

template <>
void NodeSumBackward(const NodeInputs<float>& node, const float* weight, const float* mean,
                     const float* rstd, const float* grad, bool relu, float* const* grad_input,
                     float* grad_weight) {
  const Slices slices(node);
  const Lanes lanes(node, slices.period, weight, mean, rstd);
  const int64_t channels = node.channels, period = slices.period;
  const int64_t block = BlockOf(period);

  // First pass: for each channel the sum of g, and of g (x - mean) for each input.
  const auto products = BDP_PICK(NodeProducts);
  Sums sums(slices, channels, 2 * node.number);
  const auto summed = [&](int64_t k) {
    return grad_weight != nullptr || (node.normed[k] && grad_input[k] != nullptr);
  };
  slices.ForEach([&](int64_t slice, int64_t begin, int64_t end) {
    std::vector<double> total(2 * node.number * period);
    for (int64_t at = begin; at < end; at += block) {
      const int64_t count = std::min(block, end - at);
      for (int64_t k = 0; k < node.number; ++k) {
        if (!summed(k)) continue;
        products(grad + at, node.input[k] + at, count, period, lanes.mean.data() + k * period, relu,
                 total.data() + 2 * k * period, total.data() + (2 * k + 1) * period);
      }
    }
    for (int64_t v = 0; v < 2 * node.number; ++v) sums.Put(slice, v, total.data() + v * period);
  });

  // Between them: dx = scale (g - G / n - h <g h> / n) = scale g + slope (x - mean) + offset.
  std::vector<float> slope(node.number * period), offset(node.number * period);
  for (int64_t k = 0; k < node.number; ++k) {
    double of_weight = 0;
    std::vector<float> slopes(channels), offsets(channels);
    for (int64_t c = 0; c < channels; ++c) {
      const double inverse = rstd[k * channels + c], scale = weight[k] * inverse;
      const double product = sums.Of(2 * k + 1, c), pixels = static_cast<double>(node.pixels);
      of_weight += inverse * product;
      slopes[c] = static_cast<float>(-scale * inverse * inverse * product / pixels);
      offsets[c] = static_cast<float>(-scale * sums.Of(2 * k, c) / pixels);
    }
    if (grad_weight != nullptr) grad_weight[k] = static_cast<float>(of_weight);
    Spread(slopes.data(), channels, period, slope.data() + k * period);
    Spread(offsets.data(), channels, period, offset.data() + k * period);
  }

  const int64_t written = node.number - std::count(grad_input, grad_input + node.number, nullptr);
  const bool large = written * slices.size >= kStreamed;
  const auto gradient = BDP_PICK(NodeInputGradient);
  const auto scaled = BDP_PICK(NodeScaled);
  slices.ForEach([&](int64_t, int64_t begin, int64_t end) {
    for (int64_t at = begin; at < end; at += block) {
      const int64_t count = std::min(block, end - at);
      for (int64_t k = 0; k < node.number; ++k) {
        if (grad_input[k] == nullptr) continue;
        const bool stream = large && reinterpret_cast<uintptr_t>(grad_input[k]) % 64 == 0;
        if (node.normed[k]) {
          gradient(grad + at, node.input[k] + at, count, period, lanes.mean.data() + k * period,
                   lanes.scale.data() + k * period, slope.data() + k * period,
                   offset.data() + k * period, relu, stream, grad_input[k] + at);
        } else {
          scaled(grad + at, count, weight[k], stream, grad_input[k] + at);
        }
      }
    }
  });
}

}  // namespace bdp_ext
