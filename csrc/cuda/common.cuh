// What every kernel file here needs and nothing of torch: loads, warp reductions, the launch macro.
//
// The same files are compiled by nvcc, by clang and NVRTC (sm_70) and by g++ with
// tests/simt/simt.h, which runs each thread of a block as a fiber. Keep to C++17 and to the CUDA
// built-ins that simt.h knows.
#pragma once

#if defined(BDP_EXT_SIMT)
#include "simt.h"
#elif defined(__CUDACC_RTC__)
using int16_t = short;
using int32_t = int;
using int64_t = long long;
using uint16_t = unsigned short;
using uint32_t = unsigned int;
using uint64_t = unsigned long long;
using uintptr_t = unsigned long long;
#else
#include <cuda_runtime.h>

#include <cstdint>
#endif

#include "types.h"

// One spelling of a launch for every compiler. `kernel` is a function pointer: no commas of
// template arguments.
#if defined(BDP_EXT_SIMT)
#define BDP_EXT_LAUNCH(kernel, grid, block, stream, ...) \
  simt::launch(__func__, grid, block, stream, [&] { kernel(__VA_ARGS__); })
#else
#define BDP_EXT_LAUNCH(kernel, grid, block, stream, ...) \
  kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#endif

namespace bdp_ext {

// Kernels say __launch_bounds__(threads, 1): left free, ptxas spills two registers here and there
// to reach the next step of occupancy.
constexpr int kWarp = 32;
constexpr unsigned kFullWarp = 0xffffffffu;
constexpr float kLowest =
    -3.402823466e+38f;  // -FLT_MAX: a starting maximum from which subtraction is safe

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }
__device__ __forceinline__ float quiet_nan() {
  return __uint_as_float(0x7fc00000u);
}  // sign bit clear

// ---- reading logits ----

__device__ __forceinline__ float half_bits_to_float(uint16_t bits) {
#if defined(BDP_EXT_SIMT)
  return simt::half_bits_to_float(bits);
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#endif
}

__device__ __forceinline__ float load(const float* at) { return __ldg(at); }
__device__ __forceinline__ float load(const Half* at) {
  return half_bits_to_float(__ldg(reinterpret_cast<const unsigned short*>(at)));
}
__device__ __forceinline__ float load(const BFloat16* at) {
  return __uint_as_float(static_cast<uint32_t>(__ldg(reinterpret_cast<const unsigned short*>(at)))
                         << 16);
}

// A word that another thread of the launch may be writing: never torn, never cached in a register.
__device__ __forceinline__ float load_relaxed(const float* at) {
#if defined(BDP_EXT_SIMT)
  return simt::load_relaxed(at);
#else
  return *static_cast<const volatile float*>(at);
#endif
}
__device__ __forceinline__ void store_relaxed(float* at, float value) {
#if defined(BDP_EXT_SIMT)
  simt::store_relaxed(at, value);
#else
  *static_cast<volatile float*>(at) = value;
#endif
}

// How many T a 128-bit load brings.
template <typename T>
constexpr int kPack = 16 / static_cast<int>(sizeof(T));

// 16-byte aligned `at` -> kPack<T> floats.
__device__ __forceinline__ void load_pack(const float* at, float (&z)[4]) {
  const uint4 w = __ldg(reinterpret_cast<const uint4*>(at));
  z[0] = __uint_as_float(w.x), z[1] = __uint_as_float(w.y);
  z[2] = __uint_as_float(w.z), z[3] = __uint_as_float(w.w);
}
__device__ __forceinline__ void load_pack(const Half* at, float (&z)[8]) {
  const uint4 w = __ldg(reinterpret_cast<const uint4*>(at));
  const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    z[2 * i] = half_bits_to_float(static_cast<uint16_t>(words[i] & 0xffffu));
    z[2 * i + 1] = half_bits_to_float(static_cast<uint16_t>(words[i] >> 16));
  }
}
__device__ __forceinline__ void load_pack(const BFloat16* at, float (&z)[8]) {
  const uint4 w = __ldg(reinterpret_cast<const uint4*>(at));
  const uint32_t words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    z[2 * i] = __uint_as_float(words[i] << 16);
    z[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

// ---- reductions over kLanes neighbours: all lanes of the warp take part and get the result ----

template <int kLanes>
__device__ __forceinline__ float lanes_max(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, step));
  }
  return x;
}

template <int kLanes>
__device__ __forceinline__ float lanes_sum(float x) {
#pragma unroll
  for (int step = kLanes / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}

// Does any of the kLanes neighbours say yes?
template <int kLanes>
__device__ __forceinline__ bool lanes_any(bool yes) {
  const unsigned votes = __ballot_sync(kFullWarp, yes);
  if (kLanes == kWarp) return votes != 0;
  const unsigned first = threadIdx.x % kWarp / kLanes * kLanes;
  return (votes >> first & ((1u << kLanes % kWarp) - 1)) != 0;
}

#if !defined(__CUDACC_RTC__)
// Streaming multiprocessors of the current device; no synchronisation, allowed in a graph capture.
inline int multiprocessors() {
  int device = 0, count = 1;
  if (cudaGetDevice(&device) != cudaSuccess) return count;
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
#endif

}  // namespace bdp_ext
