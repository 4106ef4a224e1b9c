// The ranks of each class side by side: a counting sort by label, unordered inside a class.
//
//     counts[c] = samples of class c
//     next[c]   = sum of the counts before c
//     grouped[next[c]++] = rank, for each sample
//
// Up to kSharedClasses a block counts its tile in shared memory first and takes its places in
// `next` at one go.
#pragma once

#include "order.cuh"

namespace bdp_ext {

constexpr int kTopkThreads = 256;
constexpr int kTopkWarps = kTopkThreads / kWarp;
constexpr int kPerThread = 8;                     // samples of a tile that a thread handles
constexpr int kTile = kTopkThreads * kPerThread;  // 2048
constexpr int kSharedClasses = 2048;              // 8 KB
constexpr int kOffsetThreads = 1024;
static_assert(kTopkThreads % kWarp == 0 && kOffsetThreads % kWarp == 0,
              "whole warps: shuffles name every lane");

// Exclusive sum over the block; `sums` [kThreads / 32] is shared. Every thread takes part, and may
// pass on only after the caller's next __syncthreads if `sums` is to be used again.
template <int kThreads>
__device__ __forceinline__ uint32_t block_exclusive_sum(uint32_t x, uint32_t* sums) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  uint32_t inclusive = x;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t before = __shfl_up_sync(kFullWarp, inclusive, step);
    if (lane >= step) inclusive += before;
  }
  if (lane == kWarp - 1) sums[warp] = inclusive;
  __syncthreads();
  uint32_t base = 0;
  for (int w = 0; w < warp; ++w) base += sums[w];  // a broadcast each: 8 to 32 of them
  return base + inclusive - x;
}

// counter[bin] += 1 for each active lane, and this lane's place among them. Scores crowd into few
// bins and sorted labels into one, so the lanes that share the first lane's bin go as one atomic,
// twice; the rest go one by one.
template <bool kPlace>
__device__ __forceinline__ uint32_t count_into(uint32_t* counter, uint32_t bin, bool active) {
  const unsigned lane = threadIdx.x % kWarp;
  uint32_t place = 0;
  unsigned todo = __ballot_sync(kFullWarp, active);
#pragma unroll
  for (int round = 0; round < 2; ++round) {
    if (todo == 0) return place;  // the same for the whole warp
    const int leader = __ffs(static_cast<int>(todo)) - 1;
    const uint32_t first = __shfl_sync(kFullWarp, bin, leader);
    const bool mine = active && bin == first;
    const unsigned same = __ballot_sync(kFullWarp, mine);
    uint32_t base = 0;
    if (lane == static_cast<unsigned>(leader))
      base = atomicAdd(counter + first, static_cast<uint32_t>(__popc(same)));
    if (kPlace) {
      base = __shfl_sync(kFullWarp, base, leader);
      if (mine) place = base + static_cast<uint32_t>(__popc(same & ((1u << lane) - 1)));
    }
    active = active && !mine;
    todo &= ~same;
  }
  if (active) place = atomicAdd(counter + bin, 1u);
  return place;
}

template <typename L, bool kShared>
__global__ void __launch_bounds__(kTopkThreads, 1)
    group_count_kernel(const L* __restrict__ label,  // [N]
                       int64_t samples, int classes,
                       uint32_t* __restrict__ counts) {  // [C], zero at the start
  __shared__ uint32_t bins[kShared ? kSharedClasses : 1];
  if (kShared) {
    for (int c = static_cast<int>(threadIdx.x); c < classes; c += kTopkThreads) bins[c] = 0;
    __syncthreads();
  }
  for (int64_t tile = blockIdx.x * static_cast<int64_t>(kTile); tile < samples;
       tile += gridDim.x * static_cast<int64_t>(kTile)) {
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = tile + j * kTopkThreads + threadIdx.x;
      const int c = i < samples ? class_of(label, i, classes) : -1;
      count_into<false>(kShared ? bins : counts, static_cast<uint32_t>(c), c >= 0);
    }
  }
  if (kShared) {
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < classes; c += kTopkThreads) {
      if (bins[c] != 0) atomicAdd(counts + c, bins[c]);
    }
  }
}

__global__ void __launch_bounds__(kOffsetThreads, 1)
    group_offsets_kernel(const uint32_t* __restrict__ counts,  // [C]
                         int classes,
                         uint32_t* __restrict__ next) {  // [C] exclusive sums
  __shared__ uint32_t sums[kOffsetThreads / kWarp];
  __shared__ uint32_t carry;
  if (threadIdx.x == 0) carry = 0;
  for (int tile = 0; tile < classes; tile += kOffsetThreads) {
    const int c = tile + static_cast<int>(threadIdx.x);
    const uint32_t count = c < classes ? counts[c] : 0;
    const uint32_t before = block_exclusive_sum<kOffsetThreads>(count, sums);
    const uint32_t base = carry;
    if (c < classes) next[c] = base + before;
    __syncthreads();
    if (threadIdx.x == kOffsetThreads - 1) carry = base + before + count;
    __syncthreads();
  }
}

template <typename L, bool kShared>
__global__ void __launch_bounds__(kTopkThreads, 1)
    group_scatter_kernel(const float* __restrict__ score,  // [N]
                         const L* __restrict__ label,      // [N]
                         int64_t samples, int classes, bool largest,
                         uint32_t* __restrict__ next,       // [C]
                         uint64_t* __restrict__ grouped) {  // [N]
  __shared__ uint32_t bins[kShared ? kSharedClasses : 1];
  for (int64_t tile = blockIdx.x * static_cast<int64_t>(kTile); tile < samples;
       tile += gridDim.x * static_cast<int64_t>(kTile)) {
    if (kShared) {
      for (int c = static_cast<int>(threadIdx.x); c < classes; c += kTopkThreads) bins[c] = 0;
      __syncthreads();
    }
    int of[kPerThread];
    uint32_t place[kPerThread];
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = tile + j * kTopkThreads + threadIdx.x;
      of[j] = i < samples ? class_of(label, i, classes) : -1;
      place[j] = count_into<true>(kShared ? bins : next, static_cast<uint32_t>(of[j]), of[j] >= 0);
    }
    if (kShared) {  // the tile's places in a class start where the class's next free one is
      __syncthreads();
      for (int c = static_cast<int>(threadIdx.x); c < classes; c += kTopkThreads) {
        if (bins[c] != 0) bins[c] = atomicAdd(next + c, bins[c]);
      }
      __syncthreads();
    }
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = tile + j * kTopkThreads + threadIdx.x;
      if (of[j] < 0) continue;
      const uint64_t rank = rank_of(order_key(__ldg(score + i), largest), static_cast<uint32_t>(i));
      grouped[(kShared ? bins[of[j]] : 0u) + place[j]] = rank;
    }
    if (kShared) __syncthreads();
  }
}

}  // namespace bdp_ext
