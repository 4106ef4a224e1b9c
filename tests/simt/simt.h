// A CUDA block on the CPU, thread by thread: enough of CUDA for g++ to compile csrc/cuda/*.cuh.
//
// Each thread of a block is a fiber (Boost.Context); blocks run one after the other. The program
// ends with a message and exit status 3
//
// - on a barrier that some threads never reach, or that they reach at different lines;
// - on a shuffle or vote that names a lane which has left the kernel, does not exist or never
//   comes, whose mask leaves out the calling lane, or which reads from a lane outside of the mask;
// - in a race build (compiled with -fsanitize=thread and linked without: race.cpp stands in for its
//   run-time library), on two threads that touch the same bytes with no barrier in between, at
//   least one of them writing and not both atomically, be it in shared or in global memory, in one
//   block or in two; and on a read of shared memory that the block never wrote.
//
// Warp-synchronous code counts as ordered by __syncwarp alone: a shuffle or vote orders no memory.
// Blocks are ordered by "write, __threadfence, atomic" on one side and "atomic, __threadfence,
// read" on the other.
//
// `simt::options` picks the order in which threads and blocks run; results must not depend on it.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaDeviceAttr { cudaDevAttrMultiProcessorCount = 16 };

namespace simt {

enum class Order { kForward, kReverse, kShuffled };

struct Options {
  Order order = Order::kForward;
  unsigned seed = 0;
  int multiprocessors = 4;
};
extern Options options;
extern long launches;  // and memsets, since the start of the program

// Runs `body` once for each thread of the grid.
void launch(const char* kernel, dim3 grid, dim3 block, cudaStream_t stream,
            const std::function<void()>& body);

dim3 thread_index();
dim3 block_index();
dim3 grid_size();

void sync_threads(int line);
void sync_warp(int line, unsigned mask = ~0u);
void thread_fence();

unsigned ballot(int line, unsigned mask, bool yes);
enum class Shuffle { kIndex, kUp, kXor };
std::uint64_t shuffle_bits(int line, Shuffle kind, unsigned mask, std::uint64_t bits, int operand,
                           int width);

template <Shuffle kKind, typename T>
inline T shuffle(int line, unsigned mask, T value, int operand, int width = 32) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8, "a 32- or 64-bit number");
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = shuffle_bits(line, kKind, mask, bits, operand, width);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// Out of line and in simt.cpp, so that a race build takes them for what they are.
float load_relaxed(const float* at);
void store_relaxed(float* at, float value);
float half_bits_to_float(std::uint16_t bits);
std::uint16_t float_to_half_bits(float x);  // to nearest, ties to even

}  // namespace simt

std::uint32_t atomicAdd(std::uint32_t* at, std::uint32_t value);
std::uint32_t atomicMax(std::uint32_t* at, std::uint32_t value);

#define __global__ inline
#define __device__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)
#define threadIdx simt::thread_index()
#define blockIdx (simt::block_index())
#define gridDim (simt::grid_size())
#define __syncthreads() simt::sync_threads(__LINE__)
#define __syncwarp(...) simt::sync_warp(__LINE__, ##__VA_ARGS__)
#define __threadfence() simt::thread_fence()
#define __ballot_sync(mask, yes) simt::ballot(__LINE__, mask, yes)
#define __shfl_sync(...) simt::shuffle<simt::Shuffle::kIndex>(__LINE__, __VA_ARGS__)
#define __shfl_up_sync(...) simt::shuffle<simt::Shuffle::kUp>(__LINE__, __VA_ARGS__)
#define __shfl_xor_sync(...) simt::shuffle<simt::Shuffle::kXor>(__LINE__, __VA_ARGS__)

template <typename T>
inline T __ldg(const T* at) {
  return *at;
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline std::uint32_t __float_as_uint(float x) {
  std::uint32_t bits;
  std::memcpy(&bits, &x, 4);
  return bits;
}
inline float __uint_as_float(std::uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, 4);
  return x;
}
inline float __expf(float x) {
  return std::exp2(x * 1.44269504f);
}  // ex2.approx: as near as a CPU has it

inline float __fdividef(float x, float y) { return x / y; }
inline float rsqrtf(float x) { return 1.f / std::sqrt(x); }

inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr, int) {
  *value = simt::options.multiprocessors;
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void* at, int value, std::size_t bytes, cudaStream_t) {
  ++simt::launches;
  std::memset(at, value, bytes);
  return cudaSuccess;
}
