// A node of a supernet: the weighted sum of its inputs, batch norms included (DARTS, Eq. 2).
//
//     y = sum_k w_k h_k,   h_k = rstd_k (x_k - mean_k)            (mean 0 and rstd 1 if not normed)
//
// This is what both ways share: node_sum_forward.cuh has y, node_sum_backward.cuh the gradients.
// norm_relu is the sum of one input of weight 1 with a ReLU behind. x, y and their gradients are of
// one type T: float, Half or BFloat16; all else is float32 and so are the sums.
//
// Slices depend on sizes and the device only, and no sum uses an atomic: the same bits each time.
#pragma once

#include "common.cuh"
#if !defined(__CUDACC_RTC__)
#include <initializer_list>

#include "ops.h"
#endif

namespace bdp_ext {

constexpr int kNodeThreads = 256;
constexpr int kNodeWarps = kNodeThreads / kWarp;
constexpr int kNodeRows = 4;     // pixels that a thread writes, all loads in flight at once
constexpr int kMostInputs = 64;  // of a launch: their addresses are the kernel's argument
constexpr int kSliceBlocks = 8;  // blocks of a multiprocessor that slices are cut for
constexpr int64_t kMostSlices = 512;
static_assert(kNodeThreads % kWarp == 0 && kMostInputs <= 64, "whole warps; a bit an input");

struct NodeArguments {
  const void* input[kMostInputs];  // T [n, C] each
  void* grad_input[kMostInputs];   // T [n, C] each, null where not wanted
  const float* weight;             // [K]
  uint64_t normed;                 // a bit an input
  uint64_t summed;                 // ... whose products are wanted
  int number;                      // K
  int channels;                    // C
  int64_t pixels;                  // n

  __device__ __forceinline__ int64_t slice_begin(int64_t slice, int64_t slices) const {
    return pixels * slice / slices;
  }
};

// How the threads of a block lie over pixels and channels: kPack channels each, the channels of a
// pixel side by side, as in memory. blockIdx.y: which kNodeThreads columns, where there are more.
template <int kPack>
struct Place {
  int columns, rows;  // of this block
  int column, row;    // of this thread
  int64_t first;      // this thread's first channel
  __device__ __forceinline__ explicit Place(int channels) {
    const int before = static_cast<int>(blockIdx.y) * kNodeThreads;
    const int left = channels / kPack - before;
    columns = left < kNodeThreads ? left : kNodeThreads;
    rows = kNodeThreads / columns;
    row = static_cast<int>(threadIdx.x) / columns;
    column = static_cast<int>(threadIdx.x) % columns;
    first = static_cast<int64_t>(before + column) * kPack;
  }
  __device__ __forceinline__ bool active() const { return row < rows; }
};

template <int kPack, typename T>
__device__ __forceinline__ void load_channels(const T* at, float (&x)[kPack]) {
  if constexpr (kPack == 4) {
    load_pack(at, x);
  } else {
    x[0] = load(at);
  }
}

template <int kPack, typename T>
__device__ __forceinline__ void store_channels(T* at, const float (&x)[kPack]) {
  if constexpr (kPack == 4) {
    store_pack(at, x);
  } else {
    store(at, x[0]);
  }
}

// The pixels that a thread writes. Past the last one it reads the last one again, so that no branch
// stands between its loads.
template <int kPack>
struct Rows {
  int64_t at[kNodeRows];  // where its channels stand
  int number;             // of real ones
  __device__ __forceinline__ Rows(const Place<kPack>& place, const NodeArguments& node)
      : number(0) {
    const int64_t first = blockIdx.x * static_cast<int64_t>(place.rows * kNodeRows) + place.row;
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) {
      const int64_t p = first + r * place.rows;
      number += p < node.pixels ? 1 : 0;
      at[r] = (p < node.pixels ? p : node.pixels - 1) * node.channels + place.first;
    }
  }
};

// Adds up each column's values; the first row's threads get the sums. All threads of the block.
template <int kPack>
__device__ __forceinline__ void sum_rows(const Place<kPack>& place, float (*sums)[kNodeThreads],
                                         float (&value)[kPack]) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int e = 0; e < kPack; ++e) sums[e][thread] = value[e];
  __syncthreads();
  for (int left = place.rows; left > 1;) {
    const int half = (left + 1) / 2;
    if (place.row < left - half) {
#pragma unroll
      for (int e = 0; e < kPack; ++e) sums[e][thread] += sums[e][thread + half * place.columns];
    }
    __syncthreads();
    left = half;
  }
#pragma unroll
  for (int e = 0; e < kPack; ++e) value[e] = sums[e][thread];  // its own: the next sum may begin
}

// Where a slice's two numbers of a channel stand: [slices, K, 2, C].
__device__ __forceinline__ int64_t partial_at(const NodeArguments& node, int64_t slice, int k,
                                              int value) {
  return ((slice * node.number + k) * 2 + value) * node.channels;
}

__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}

#if !defined(__CUDACC_RTC__)
// ---- for the launchers ----

inline int64_t node_slices(int64_t number, int64_t pixels, int64_t channels) {
  const int64_t rows = ceil_div(kNodeThreads, channels);  // pixels of a block at once, about
  const int64_t wanted = ceil_div(int64_t{kSliceBlocks} * multiprocessors(), number);
  const int64_t most = ceil_div(pixels, 16 * rows);
  const int64_t slices = wanted < most ? wanted : most;
  return slices < 1 ? 1 : slices > kMostSlices ? kMostSlices : slices;
}

// [slices, K, 2, C] float64 and, for backward, slope and offset [K, C].
inline int64_t node_sum_scratch_bytes(int64_t number, int64_t pixels, int64_t channels) {
  const int64_t together = number < kMostInputs ? number : kMostInputs;
  return together * channels * (16 * node_slices(together, pixels, channels) + 8);
}

// The inputs from `first` on that fit one launch. `grad_input` may be null.
template <typename T>
NodeArguments node_arguments(const NodeInputs<T>& node, const float* weight, T* const* grad_input,
                             bool need_weight, int64_t first) {
  NodeArguments some = {};
  const int64_t left = node.number - first;
  some.number = static_cast<int>(left < kMostInputs ? left : kMostInputs);
  some.channels = static_cast<int>(node.channels);
  some.pixels = node.pixels;
  some.weight = weight + first;
  for (int k = 0; k < some.number; ++k) {
    const uint64_t bit = uint64_t{1} << k;
    const bool normed = node.normed[static_cast<size_t>(first + k)];
    some.input[k] = node.input[first + k];
    some.grad_input[k] = grad_input == nullptr ? nullptr : grad_input[first + k];
    if (normed) some.normed |= bit;
    if (need_weight || (normed && some.grad_input[k] != nullptr)) some.summed |= bit;
  }
  return some;
}

// Calls launch(arguments, first) for each kMostInputs inputs.
template <typename T, typename Launch>
cudaError_t launch_nodes(const NodeInputs<T>& node, const float* weight, T* const* grad_input,
                         bool need_weight, const Launch& launch) {
  if (node.channels > INT32_MAX / 2 || node.pixels > INT32_MAX ||
      ceil_div(node.channels, kNodeThreads) > 65535) {
    return cudaErrorInvalidValue;
  }
  for (int64_t first = 0; first < node.number; first += kMostInputs) {
    const NodeArguments some = node_arguments(node, weight, grad_input, need_weight, first);
    const cudaError_t error = launch(some, first);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

// Whether 4 channels are read at once: all that is read or written starts at a boundary of 4.
template <typename T>
bool node_is_packed(const NodeInputs<T>& node, T* const* grad_input, const T* other,
                    std::initializer_list<const float*> moments) {
  bool packed = node.channels % 4 == 0;
  const auto check = [&](const auto* at) {
    packed = packed && reinterpret_cast<uintptr_t>(at) % (4 * sizeof(*at)) == 0;
  };
  check(other);
  for (const float* at : moments) check(at);
  for (int64_t k = 0; k < node.number; ++k) {
    check(node.input[k]);
    if (grad_input != nullptr) check(grad_input[k]);
  }
  return packed;
}

struct NodeGrid {
  NodeGrid(const NodeArguments& node, int pack, int64_t number_of_slices)
      : slices(static_cast<unsigned>(number_of_slices)) {
    const int columns = node.channels / pack;
    chunks = static_cast<unsigned>(ceil_div(columns, kNodeThreads));
    // The last chunk has fewer columns and more rows a block: its last blocks find no pixel left.
    const int64_t rows = kNodeThreads / (columns < kNodeThreads ? columns : kNodeThreads);
    tiles = static_cast<unsigned>(ceil_div(node.pixels, rows * kNodeRows));
  }
  unsigned slices, chunks, tiles;
};
#endif

}  // namespace bdp_ext
