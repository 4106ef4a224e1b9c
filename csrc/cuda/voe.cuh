// Variance of Error: the variance of each sample's last K scores (BDP, Eq. 4).
//
//     VoE_i = (1/n) * sum_t (s_i^t - mean_i)^2   over the n scores that are known (not NaN)
//
// - voe_kernel<4 | 8 | 16, 4>: 4 samples a thread, where all slots are 16-byte aligned.
// - voe_kernel<4 | 8 | 16 | 32, 1>: 1 sample a thread. K is at most the first number.
// - voe_long_kernel: any K, both passes read the window.
#pragma once

#include "variance.cuh"

namespace bdp_ext {

constexpr int kVoeThreads = 128;
constexpr int kMaxVoeVector = 16;  // 16 slots x 4 samples: 64 scores in registers
static_assert(kVoeThreads % kWarp == 0, "whole warps");

template <int kMost, int kSamples>
__global__ void __launch_bounds__(kVoeThreads, 1)
    voe_kernel(const float* __restrict__ window,  // [K, N], K <= kMost
               int slots, int64_t samples,
               int64_t stride,             // from one slot to the next
               float* __restrict__ out) {  // [N]
  static_assert(kSamples == 1 || kSamples == 4, "a scalar or a 128-bit vector");
  static_assert(kMost * kSamples <= 4 * kMaxVoeVector, "scores in registers");
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * kVoeThreads + threadIdx.x) * kSamples;
  if (first >= samples) return;  // kSamples divides N: checked by the launcher

  float scores[kMost][kSamples];
#pragma unroll
  for (int k = 0; k < kMost; ++k) {
    const float* at = window + k * stride + first;
    if (k < slots) {
      if constexpr (kSamples == 4) {
        load_pack(at, scores[k]);
      } else {
        scores[k][0] = load(at);
      }
    } else {
#pragma unroll
      for (int i = 0; i < kSamples; ++i) scores[k][i] = quiet_nan();
    }
  }
  float variance[kSamples];
#pragma unroll
  for (int i = 0; i < kSamples; ++i) {
    variance[i] = variance_of([&](const auto& take) {
#pragma unroll
      for (int k = 0; k < kMost; ++k) take(scores[k][i]);
    });
  }
  if constexpr (kSamples == 4) {
    *reinterpret_cast<float4*>(out + first) =
        make_float4(variance[0], variance[1], variance[2], variance[3]);
  } else {
    out[first] = variance[0];
  }
}

__global__ void __launch_bounds__(kVoeThreads, 1)
    voe_long_kernel(const float* __restrict__ window,  // [K, N], any K
                    int slots, int64_t samples, int64_t stride,
                    float* __restrict__ out) {  // [N]
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kVoeThreads + threadIdx.x;
  if (i >= samples) return;
  out[i] = variance_of([&](const auto& take) {
    for (int k = 0; k < slots; ++k) take(load(window + k * stride + i));
  });
}

#if !defined(__CUDACC_RTC__)
// ---- launcher ----

inline cudaError_t launch_voe(const float* window,  // [K, N]
                              int64_t slots, int64_t samples,
                              int64_t stride,  // from one slot to the next
                              float* out,      // [N]
                              cudaStream_t stream) {
  if (samples == 0) return cudaSuccess;
  if (slots > INT32_MAX || ceil_div(samples, kVoeThreads) > INT32_MAX) return cudaErrorInvalidValue;
  // Every slot's scores start at a 16-byte boundary, and N is a multiple of 4.
  const bool aligned = samples % 4 == 0 && stride % 4 == 0 &&
                       reinterpret_cast<uintptr_t>(window) % 16 == 0 &&
                       reinterpret_cast<uintptr_t>(out) % 16 == 0;
  const bool packed = aligned && slots <= kMaxVoeVector;
  const auto kernel = slots <= 4   ? (packed ? voe_kernel<4, 4> : voe_kernel<4, 1>)
                      : slots <= 8 ? (packed ? voe_kernel<8, 4> : voe_kernel<8, 1>)
                      : slots <= kMaxVoeVector
                          ? (packed ? voe_kernel<kMaxVoeVector, 4> : voe_kernel<kMaxVoeVector, 1>)
                      : slots <= 32 ? voe_kernel<32, 1>
                                    : voe_long_kernel;
  const auto blocks = static_cast<unsigned>(ceil_div(samples, kVoeThreads * (packed ? 4 : 1)));
  BDP_EXT_LAUNCH(kernel, blocks, kVoeThreads, stream, window, static_cast<int>(slots), samples,
                 stride, out);
  return cudaGetLastError();
}
#endif

}  // namespace bdp_ext
