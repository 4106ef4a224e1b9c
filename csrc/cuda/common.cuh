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

// ---- reading ----

__device__ __forceinline__ float half_bits_to_float(uint16_t bits) {
#if defined(BDP_EXT_SIMT)
  return simt::half_bits_to_float(bits);
#else
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#endif
}

__device__ __forceinline__ float to_float(float x) { return x; }
__device__ __forceinline__ float to_float(Half x) { return half_bits_to_float(x.bits); }
__device__ __forceinline__ float to_float(BFloat16 x) {
  return __uint_as_float(static_cast<uint32_t>(x.bits) << 16);
}

__device__ __forceinline__ float load(const float* at) { return __ldg(at); }
template <typename T>
__device__ __forceinline__ float load(const T* at) {
  return to_float(T{__ldg(reinterpret_cast<const unsigned short*>(at))});
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

// The two T of a word.
__device__ __forceinline__ void unpack(Half, uint32_t word, float& first, float& second) {
  first = half_bits_to_float(static_cast<uint16_t>(word & 0xffffu));
  second = half_bits_to_float(static_cast<uint16_t>(word >> 16));
}
__device__ __forceinline__ void unpack(BFloat16, uint32_t word, float& first, float& second) {
  first = __uint_as_float(word << 16);
  second = __uint_as_float(word & 0xffff0000u);
}

// `at`, aligned to as many bytes as are read -> 4 or kPack<T> floats.
__device__ __forceinline__ void load_pack(const float* at, float (&z)[4]) {
  const uint4 w = __ldg(reinterpret_cast<const uint4*>(at));
  z[0] = __uint_as_float(w.x), z[1] = __uint_as_float(w.y);
  z[2] = __uint_as_float(w.z), z[3] = __uint_as_float(w.w);
}
template <typename T>
__device__ __forceinline__ void load_pack(const T* at, float (&z)[4]) {
  const uint2 w = __ldg(reinterpret_cast<const uint2*>(at));
  unpack(T{}, w.x, z[0], z[1]), unpack(T{}, w.y, z[2], z[3]);
}
template <typename T>
__device__ __forceinline__ void load_pack(const T* at, float (&z)[8]) {
  const uint4 w = __ldg(reinterpret_cast<const uint4*>(at));
  unpack(T{}, w.x, z[0], z[1]), unpack(T{}, w.y, z[2], z[3]);
  unpack(T{}, w.z, z[4], z[5]), unpack(T{}, w.w, z[6], z[7]);
}

// ---- writing: rounded to nearest, ties to even ----

// Two T as a word, the first in its lower half. Before sm_80 there is no instruction for bfloat16.
__device__ __forceinline__ uint32_t pack(Half, float first, float second) {
#if defined(BDP_EXT_SIMT)
  return simt::float_to_half_bits(first) | uint32_t{simt::float_to_half_bits(second)} << 16;
#elif __CUDA_ARCH__ >= 800
  uint32_t word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  uint16_t low, high;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(low) : "f"(first));
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(high) : "f"(second));
  return low | static_cast<uint32_t>(high) << 16;
#endif
}
__device__ __forceinline__ uint32_t bfloat16_bits(float x) {
  const uint32_t bits = __float_as_uint(x);
  return x != x ? 0x7fffu : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}
__device__ __forceinline__ uint32_t pack(BFloat16, float first, float second) {
#if !defined(BDP_EXT_SIMT) && __CUDA_ARCH__ >= 800
  uint32_t word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#else
  return bfloat16_bits(first) | bfloat16_bits(second) << 16;
#endif
}

__device__ __forceinline__ void store(float* at, float value) { *at = value; }
template <typename T>
__device__ __forceinline__ void store(T* at, float value) {
  at->bits = static_cast<unsigned short>(pack(T{}, value, 0.f) & 0xffffu);
}
__device__ __forceinline__ void store_pack(float* at, const float (&z)[4]) {
  *reinterpret_cast<float4*>(at) = make_float4(z[0], z[1], z[2], z[3]);
}
template <typename T>
__device__ __forceinline__ void store_pack(T* at, const float (&z)[4]) {
  *reinterpret_cast<uint2*>(at) = make_uint2(pack(T{}, z[0], z[1]), pack(T{}, z[2], z[3]));
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
