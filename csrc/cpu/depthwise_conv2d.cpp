// The depthwise convolution and its gradients on the CPU: rows go to depthwise_conv2d_rows.h.

#include <vector>

#include "ops.h"

#define BDP_KERNELS "cpu/depthwise_conv2d_rows.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {
namespace {

constexpr int64_t kGrain = 1 << 19;  // products that a thread is worth: some 10 us
constexpr int64_t kMostChunks = 64;  // sums of the weight gradient, whatever the threads
constexpr int64_t kWidest = 16;      // lanes of any instruction set

int64_t Taps(const DepthwiseConv2dShape& s) { return s.kernel * s.kernel; }
int64_t Products(const DepthwiseConv2dShape& s) {
  return s.batch * s.out_height * s.out_width * s.channels * Taps(s);
}
int64_t TapStride(const DepthwiseConv2dShape& s) {
  return (s.channels + kWidest - 1) / kWidest * kWidest;
}

// Zeros, in memory that stays: with a freed block at the heap's end glibc hands its free pages back
// to the system, and the next output would pay for new ones, 2 us each here.
template <typename T>
T* Scratch(int64_t size) {
  thread_local std::vector<T> memory;
  memory.assign(size, T(0));
  return memory.data();
}

// [C, kernel * kernel] to [kernel * kernel, TapStride]
const float* TapsOf(const DepthwiseConv2dShape& s, const float* weight) {
  float* taps = Scratch<float>(Taps(s) * TapStride(s));
  for (int64_t c = 0; c < s.channels; ++c) {
    for (int64_t k = 0; k < Taps(s); ++k) taps[k * TapStride(s) + c] = weight[c * Taps(s) + k];
  }
  return taps;
}

}  // namespace

bool HasDepthwiseConv2d(const DepthwiseConv2dShape& s) {
  return (s.kernel == 3 || s.kernel == 5) && (s.stride == 1 || s.stride == 2) &&
         (s.dilation == 1 || s.dilation == 2);
}

void DepthwiseConv2d(const DepthwiseConv2dShape& s, const float* input, const float* weight,
                     float* output) {
  const auto rows_of = BDP_PICK(DepthwiseOutputRows);
  const float* taps = TapsOf(s, weight);
  const int64_t rows = s.batch * s.out_height, parts = Parts(Products(s), kGrain);
  ForEachPart(parts, [&](int64_t part) {
    rows_of(s, input, taps, TapStride(s), rows * part / parts, rows * (part + 1) / parts, output);
  });
}

// In chunks that depend on the shape alone, so that the sums do not depend on the threads. A
// chunk's gradient is still in the cache when the second pass reads it.
void DepthwiseConv2dBackward(const DepthwiseConv2dShape& s, const float* grad, const float* input,
                             const float* weight, float* grad_input, float* grad_weight) {
  const auto input_rows = BDP_PICK(DepthwiseInputRows);
  const auto weight_sums = BDP_PICK(DepthwiseWeightSums);
  const int64_t most = Products(s) / kGrain + 1, chunks = most < kMostChunks ? most : kMostChunks;
  const int64_t parts = Parts(chunks, 1) < chunks ? Parts(chunks, 1) : chunks;
  const int64_t rows = s.batch * s.height, out_rows = s.batch * s.out_height;
  const int64_t sums = Taps(s) * TapStride(s);
  const float* taps = grad_input ? TapsOf(s, weight) : nullptr;
  double* total = grad_weight ? Scratch<double>(chunks * sums) : nullptr;
  ForEachPart(parts, [&](int64_t part) {
    for (int64_t i = chunks * part / parts; i < chunks * (part + 1) / parts; ++i) {
      if (grad_input) {
        input_rows(s, grad, taps, TapStride(s), rows * i / chunks, rows * (i + 1) / chunks,
                   grad_input);
      }
      if (grad_weight) {
        weight_sums(s, grad, input, TapStride(s), out_rows * i / chunks,
                    out_rows * (i + 1) / chunks, total + i * sums);
      }
    }
  });
  if (!grad_weight) return;
  for (int64_t k = 0; k < Taps(s); ++k) {
    for (int64_t c = 0; c < s.channels; ++c) {
      double sum = 0.0;
      for (int64_t i = 0; i < chunks; ++i) sum += total[i * sums + k * TapStride(s) + c];
      grad_weight[c * Taps(s) + k] = static_cast<float>(sum);
    }
  }
}

}  // namespace bdp_ext
