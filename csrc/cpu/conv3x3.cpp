// The 3x3 convolution and its gradients on the CPU: tiles go to conv3x3_tiles.h.

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "ops.h"

#define BDP_KERNELS "cpu/conv3x3_tiles.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {
namespace {

constexpr int64_t kTaps = 9;
constexpr int64_t kPoints = 36;            // of a tile of 4 x 4
constexpr int64_t kGrain = 1 << 19;        // products that a thread is worth: some 20 us
constexpr int64_t kSliceTiles = 128;       // of a sum of the weight gradient, at least
constexpr int64_t kMostSlices = 32;        // such sums, whatever the threads
constexpr int64_t kSliceFloats = 1 << 24;  // memory for all of them
constexpr int64_t kMostWeights = 1 << 18;  // more, transformed, would come from main memory
constexpr int64_t kLine = 16;              // floats of a cache line
constexpr int64_t kCacheFloats = 1 << 16;  // what transformed tiles may take of the L2 cache
constexpr int64_t kRows = 28;              // tiles that the widest product takes together

int64_t Tiles(const Conv3x3Shape& s) {
  return s.batch * ((s.height + 3) / 4) * ((s.width + 3) / 4);
}
int64_t Weights(const Conv3x3Shape& s) { return s.in_channels * s.out_channels; }
int64_t Products(const Conv3x3Shape& s) { return kPoints * Weights(s) * Tiles(s); }

// Tiles that are transformed together: as many as the cache holds.
int64_t Room(const Conv3x3Shape& s) {
  const int64_t most = kCacheFloats / kPoints / (s.in_channels + s.out_channels);
  return std::max(most / kRows * kRows, kRows);
}
int64_t Points(int64_t channels, int64_t room) { return kPoints * (channels * room + kLine); }

// Memory that stays with the thread and is not cleared, cut into pieces that begin cache lines.
// Fresh memory would cost more than what is done in it.
class Scratch {
 public:
  explicit Scratch(std::vector<float>& memory, int64_t size) {
    if (memory.size() < static_cast<size_t>(size + kLine)) memory.resize(size + kLine);
    const uintptr_t address = reinterpret_cast<uintptr_t>(memory.data());
    next_ = memory.data() + (-address % (kLine * sizeof(float))) / sizeof(float);
  }
  float* Take(int64_t size) { return std::exchange(next_, next_ + size); }

 private:
  float* next_;
};

// Two of them: a thread that calls an operation also takes part in it.
thread_local std::vector<float> shared_memory, own_memory;

// The same weights for the gradient of the input: turned round, inputs and outputs exchanged.
Conv3x3Weight Turned(const Conv3x3Weight& w) {
  return {w.data + 2 * (w.y + w.x), w.in, w.out, -w.y, -w.x};
}

// [9, in, out]
void CopyTaps(const Conv3x3Shape& s, const Conv3x3Weight& w, float* taps) {
  for (int64_t k = 0; k < kTaps; ++k, taps += Weights(s)) {
    for (int64_t o = 0; o < s.out_channels; ++o) {
      const float* from = w.data + o * w.out + k / 3 * w.y + k % 3 * w.x;
      for (int64_t i = 0; i < s.in_channels; ++i) taps[i * s.out_channels + o] = from[i * w.in];
    }
  }
}

}  // namespace

bool HasConv3x3(const Conv3x3Shape& s) {
  return s.in_channels % 16 == 0 && s.out_channels % 16 == 0 && Weights(s) > 0 &&
         Weights(s) <= kMostWeights;
}

void Conv3x3(const Conv3x3Shape& s, const float* input, const Conv3x3Weight& weight,
             float* output) {
  const auto points_of = BDP_PICK(Conv3x3Points);
  const auto tiles_of = BDP_PICK(Conv3x3Tiles);
  const int64_t weights = Points(s.in_channels, s.out_channels);
  Scratch shared(shared_memory, kTaps * Weights(s) + weights);
  float* taps = shared.Take(kTaps * Weights(s));
  float* u = shared.Take(weights);
  CopyTaps(s, weight, taps);
  const int64_t channel_parts = Parts(kPoints * Weights(s), kGrain);
  ForEachPart(channel_parts, [&](int64_t part) {
    points_of(s, taps, s.in_channels * part / channel_parts,
              s.in_channels * (part + 1) / channel_parts, u);
  });
  const int64_t tiles = Tiles(s), room = Room(s), parts = Parts(Products(s), kGrain);
  ForEachPart(parts, [&](int64_t part) {
    const int64_t inputs = Points(s.in_channels, room);
    const int64_t outputs = Points(s.out_channels, room);
    Scratch own(own_memory, inputs + outputs);
    float* v = own.Take(inputs);
    tiles_of(s, input, u, tiles * part / parts, tiles * (part + 1) / parts, room, v,
             own.Take(outputs), output);
  });
}

void Conv3x3InputGradient(const Conv3x3Shape& s, const float* grad, const Conv3x3Weight& weight,
                          float* grad_input) {
  Conv3x3({s.batch, s.out_channels, s.in_channels, s.height, s.width}, grad, Turned(weight),
          grad_input);
}

// In slices that depend on the shape alone, so that the sums do not depend on the threads. A slice
// is summed in float32, a few dozen tiles at a time; slices are added up in float64.
void Conv3x3WeightGradient(const Conv3x3Shape& s, const float* grad, const float* input,
                           const Conv3x3WeightOut& grad_weight) {
  const auto sums_of = BDP_PICK(Conv3x3WeightSums);
  const int64_t tiles = Tiles(s), size = kTaps * Weights(s), room = Room(s);
  const int64_t most = std::min({tiles / kSliceTiles, kMostSlices, kSliceFloats / size});
  const int64_t slices = std::max<int64_t>(most, tiles > 0);
  Scratch shared(shared_memory, (slices + 1) * size);
  float* sums = shared.Take(slices * size);
  const int64_t parts = std::min(Parts(Products(s), kGrain), slices);
  ForEachPart(parts, [&](int64_t part) {
    const int64_t inputs = Points(s.in_channels, room);
    const int64_t grads = Points(s.out_channels, room);
    const int64_t weights = Points(s.in_channels, s.out_channels);
    Scratch own(own_memory, inputs + grads + weights);
    float* v = own.Take(inputs);
    float* w = own.Take(grads);
    float* u = own.Take(weights);
    for (int64_t i = slices * part / parts; i < slices * (part + 1) / parts; ++i) {
      sums_of(s, grad, input, tiles * i / slices, tiles * (i + 1) / slices, room, v, w, u,
              sums + i * size);
    }
  });
  BDP_PICK(Conv3x3AddSlices)(slices, size, sums);
  for (int64_t k = 0; k < kTaps; ++k, sums += Weights(s)) {
    for (int64_t o = 0; o < s.out_channels; ++o) {
      float* to =
          grad_weight.data + o * grad_weight.out + k / 3 * grad_weight.y + k % 3 * grad_weight.x;
      for (int64_t i = 0; i < s.in_channels; ++i)
        to[i * grad_weight.in] = sums[i * s.out_channels + o];
    }
  }
}

}  // namespace bdp_ext
