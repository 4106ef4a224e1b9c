// The rank of the k-th allowed sample of all classes, by radix select: 11 bits a pass over all
// samples.
//
// The overview stands in capped_topk.cuh. Pass 0 finds who is allowed and keeps his key; later
// passes read 4 bytes a sample, and return at once where the threshold is settled.
#pragma once

#include "group_by_class.cuh"

namespace bdp_ext {

constexpr int kDigitBits = 11, kDigitBins = 1 << kDigitBits;
constexpr int kDigitPasses = 6;
static_assert(kDigitBins % kTopkThreads == 0, "the same number of bins a thread");
static_assert(kDigitPasses * kDigitBits >= 64 && (kDigitPasses - 1) * kDigitBits < 64,
              "passes cover a rank");

// Where the search for the threshold stands. Once open == 0, `prefix` is the threshold.
struct Search {
  uint64_t prefix;
  uint32_t wanted;  // of the ranks that share the prefix's settled bits
  uint32_t open;
};

// Scratch, in this order; the first part is zeroed by the launcher.
struct TopkScratch {
  uint32_t* total;    // [1] allowed samples
  uint32_t* digits;   // [kDigitPasses, kDigitBins] histograms
  uint32_t* counts;   // [C] samples of each class
  uint32_t* next;     // [C] first, then next free place of each class in `grouped`
  uint64_t* last;     // [C]
  Search* search;     // [kDigitPasses + 1]
  uint64_t* grouped;  // [N] ranks by class; later, as uint32_t [N], the samples' keys by index
};

// What pass 0 starts from.
__device__ __forceinline__ Search first_search(uint32_t total, int64_t k) {
  if (k >= static_cast<int64_t>(total)) return {kAll, total, 0};
  return k == 0 ? Search{kNone, 0, 0} : Search{0, static_cast<uint32_t>(k), 1};
}

// What pass `pass` > 0 starts from, once the histogram of the pass before is complete. Every block
// works it out for itself (2048 counters from L2) instead of a launch of its own doing so.
__device__ __forceinline__ Search next_search(const TopkScratch& scratch, int pass, uint32_t* sums,
                                              Search* shared) {
  constexpr int kBins = kDigitBins / kTopkThreads;
  const Search before = scratch.search[pass - 1];
  if (before.open == 0) return before;
  const int shift = 64 - pass * kDigitBits;  // of the histogram's digit
  const int low = shift < 0 ? 0 : shift;     // the last digit is cut, see digit_of
  const uint32_t* bins = scratch.digits + (pass - 1) * kDigitBins + threadIdx.x * kBins;
  uint32_t count[kBins], sum = 0;
#pragma unroll
  for (int b = 0; b < kBins; ++b) sum += count[b] = bins[b];
  uint32_t reached = block_exclusive_sum<kTopkThreads>(sum, sums);
  if (reached < before.wanted && before.wanted <= reached + sum) {  // one thread
#pragma unroll
    for (int b = 0; b < kBins; ++b) {
      if (reached < before.wanted && before.wanted <= reached + count[b]) {
        const auto digit = static_cast<uint64_t>(threadIdx.x * kBins + b);
        const bool whole = before.wanted == reached + count[b];
        const uint64_t prefix = before.prefix | digit << low;
        // A digit of ones filled up with ones would reach past the last allowed rank.
        const uint64_t filled = prefix | ((1ull << low) - 1);
        *shared = whole ? Search{filled < kAll ? filled : kAll, 0, 0}
                        : Search{prefix, before.wanted - reached, 1};
      }
      reached += count[b];
    }
  }
  __syncthreads();
  return *shared;
}

// A rank's digit in a pass; the last pass has the 9 bits that are left.
__device__ __forceinline__ uint32_t digit_of(uint64_t rank, int pass) {
  const int shift = 64 - (pass + 1) * kDigitBits;
  return shift >= 0 ? static_cast<uint32_t>(rank >> shift) % kDigitBins
                    : static_cast<uint32_t>(rank) & ((1u << (kDigitBits + shift)) - 1);
}

// Adds a block's histogram of a pass to the grid's.
__device__ __forceinline__ void add_bins(const uint32_t* bins, uint32_t* digits) {
  __syncthreads();
  for (int b = static_cast<int>(threadIdx.x); b < kDigitBins; b += kTopkThreads) {
    if (bins[b] != 0) atomicAdd(digits + b, bins[b]);
  }
}

// Pass 0, which also says who is allowed: his key, for the later passes, or kNotAllowed.
template <typename L>
__global__ void __launch_bounds__(kTopkThreads, 1)
    capped_topk_first_digit_kernel(const float* __restrict__ score,  // [N]
                                   const L* __restrict__ label,      // [N]
                                   int64_t samples, int classes, int64_t k, bool largest,
                                   TopkScratch scratch) {
  __shared__ uint32_t bins[kDigitBins];
  if (blockIdx.x == 0 && threadIdx.x == 0) scratch.search[0] = first_search(scratch.total[0], k);
  for (int b = static_cast<int>(threadIdx.x); b < kDigitBins; b += kTopkThreads) bins[b] = 0;
  __syncthreads();
  auto* keys = reinterpret_cast<uint32_t*>(scratch.grouped);  // [N]: the ranks are used up
  for (int64_t tile = blockIdx.x * static_cast<int64_t>(kTile); tile < samples;
       tile += gridDim.x * static_cast<int64_t>(kTile)) {
#pragma unroll
    for (int j = 0; j < kPerThread; ++j) {
      const int64_t i = tile + j * kTopkThreads + threadIdx.x;
      uint32_t key = kNotAllowed;
      if (i < samples) {
        const int c = class_of(label, i, classes);
        if (c >= 0) {
          const uint32_t full = order_key(__ldg(score + i), largest);
          if (rank_of(full, static_cast<uint32_t>(i)) <= scratch.last[c]) key = full;
        }
        keys[i] = key;
      }
      count_into<false>(bins, digit_of(rank_of(key, 0), 0), key != kNotAllowed);
    }
  }
  add_bins(bins, scratch.digits);
}

// Passes 1 to 5.
__global__ void __launch_bounds__(kTopkThreads, 1)
    capped_topk_digit_kernel(int pass, int64_t samples, TopkScratch scratch) {
  __shared__ uint32_t bins[kDigitBins];
  __shared__ uint32_t sums[kTopkWarps];
  __shared__ Search shared;
  const Search search = next_search(scratch, pass, sums, &shared);
  if (blockIdx.x == 0 && threadIdx.x == 0) scratch.search[pass] = search;
  if (search.open == 0) return;  // the whole grid

  for (int b = static_cast<int>(threadIdx.x); b < kDigitBins; b += kTopkThreads) bins[b] = 0;
  __syncthreads();
  const auto* keys = reinterpret_cast<const uint32_t*>(scratch.grouped);  // [N]
  const int settled = 64 - pass * kDigitBits;
  for (int64_t tile = blockIdx.x * static_cast<int64_t>(kTile); tile < samples;
       tile += gridDim.x * static_cast<int64_t>(kTile)) {
#pragma unroll
    for (int j = 0; j < kPerThread; j += 4) {
      const int64_t i = tile + j * kTopkThreads + 4 * static_cast<int64_t>(threadIdx.x);
      uint32_t key[4] = {kNotAllowed, kNotAllowed, kNotAllowed, kNotAllowed};
      if (i + 4 <= samples) {
        const uint4 four = *reinterpret_cast<const uint4*>(keys + i);
        key[0] = four.x, key[1] = four.y, key[2] = four.z, key[3] = four.w;
      } else {
        for (int e = 0; e < 4; ++e) {
          if (i + e < samples) key[e] = keys[i + e];
        }
      }
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const uint64_t rank = rank_of(key[e], static_cast<uint32_t>(i + e));
        const bool open = key[e] != kNotAllowed && (rank ^ search.prefix) >> settled == 0;
        count_into<false>(bins, digit_of(rank, pass), open);
      }
    }
  }
  add_bins(bins, scratch.digits + pass * kDigitBins);
}

}  // namespace bdp_ext
