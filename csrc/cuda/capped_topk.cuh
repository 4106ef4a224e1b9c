// The k most extreme samples such that no class gives more than its cap (BDP, Sec. 3.2.3; Eq. 6).
//
// A sample's place in the order is one 64-bit number, its rank = key(score) << 32 | index, lower
// first: unique, so ties are settled and every step below is exact and deterministic, in whatever
// order blocks and atomics run.
//
//     last[c]   = rank of the cap[c]-th sample of class c: at most those are allowed
//     threshold = rank of the k-th allowed sample of all
//     taken     = rank <= min(last[class], threshold)
//
// - group_by_class.cuh, 3 launches: the ranks of each class side by side.
// - class: last[c] by radix select, 8 bits a pass, a block a class, in shared memory if it fits.
// - digit, 6 launches: the threshold, 11 bits a pass; each first ends the choice of the one before.
// - mask: the answer.
//
// All 11 launches (and one memset) have shapes known on the host; passes that have nothing left to
// settle return at once.
#pragma once

#include "capped_topk_threshold.cuh"

namespace bdp_ext {

constexpr int kClassFits = 2048;    // ranks of a class kept in shared memory (16 KB)
constexpr int kClassUnroll = 4;     // ranks of a class that a thread has in flight
constexpr int kManyThreads = 1024;  // for a class's block, where classes do not fit on average
constexpr int kClassBits = 8, kClassBins = 1 << kClassBits;

// ---- class: the rank of each class's cap-th sample ----

template <int kThreads>
__global__ void __launch_bounds__(kThreads, 1)
    capped_topk_class_kernel(const uint64_t* __restrict__ grouped,  // [N]
                             const uint32_t* __restrict__ counts,   // [C]
                             const uint32_t* __restrict__ next,     // [C] past each class's end
                             const int64_t* __restrict__ cap,       // [C]
                             int classes,
                             uint64_t* __restrict__ last,     // [C]
                             uint32_t* __restrict__ total) {  // [1] allowed, zero at the start
  static_assert(kThreads % kWarp == 0 && kThreads >= kClassBins, "at least a thread a bin");
  __shared__ uint64_t kept[kClassFits];
  __shared__ uint32_t bins[kClassBins];
  __shared__ uint32_t sums[kThreads / kWarp];
  __shared__ uint32_t chosen[3];  // digit, wanted inside it, whether it is wanted whole
  const int thread = static_cast<int>(threadIdx.x);
  for (int c = static_cast<int>(blockIdx.x); c < classes; c += static_cast<int>(gridDim.x)) {
    const uint32_t count = counts[c];
    const int64_t most = __ldg(cap + c);
    if (most <= 0 || most >= static_cast<int64_t>(count)) {  // the same for the whole block
      if (thread == 0) {
        last[c] = most <= 0 ? kNone : kAll;
        if (most > 0 && count > 0) atomicAdd(total, count);
      }
      continue;
    }
    const uint64_t* ranks = grouped + (next[c] - count);
    const bool fits = count <= kClassFits;
    if (fits) {
      for (uint32_t i = threadIdx.x; i < count; i += kThreads) kept[i] = ranks[i];
    }
    auto wanted = static_cast<uint32_t>(most);
    uint64_t prefix = 0;
    for (int shift = 64 - kClassBits; shift >= 0; shift -= kClassBits) {
      if (thread < kClassBins) bins[thread] = 0;
      __syncthreads();
      for (uint32_t base = 0; base < count; base += kClassUnroll * kThreads) {
        uint64_t rank[kClassUnroll];
#pragma unroll
        for (int j = 0; j < kClassUnroll; ++j) {
          const uint32_t i = base + j * kThreads + threadIdx.x;
          rank[j] = i < count ? (fits ? kept[i] : ranks[i]) : 0;
        }
#pragma unroll
        for (int j = 0; j < kClassUnroll; ++j) {
          // Shifted twice: by 64 at once is undefined. Rank 0 does not occur.
          const bool open = rank[j] != 0 && ((rank[j] ^ prefix) >> shift >> kClassBits) == 0;
          count_into<false>(bins, static_cast<uint32_t>(rank[j] >> shift) % kClassBins, open);
        }
      }
      __syncthreads();
      const uint32_t mine = thread < kClassBins ? bins[thread] : 0;
      const uint32_t before = block_exclusive_sum<kThreads>(mine, sums);
      if (before < wanted && wanted <= before + mine) {  // one thread
        chosen[0] = static_cast<uint32_t>(thread);
        chosen[1] = wanted - before;
        chosen[2] = wanted == before + mine;
      }
      __syncthreads();
      prefix |= static_cast<uint64_t>(chosen[0]) << shift;
      wanted = chosen[1];
      if (chosen[2] != 0) {  // all that share these digits: at the latest when one rank is left
        prefix |= (1ull << shift) - 1;
        break;
      }
    }
    if (thread == 0) {
      last[c] = prefix;
      atomicAdd(total, static_cast<uint32_t>(most));
    }
    __syncthreads();  // before the next class overwrites `kept` and `chosen`
  }
}

// ---- mask ----

__global__ void __launch_bounds__(kTopkThreads, 1)
    capped_topk_mask_kernel(int64_t samples, int64_t k, TopkScratch scratch,
                            bool* __restrict__ mask,        // [N], 4-byte aligned
                            int64_t* __restrict__ taken) {  // []
  __shared__ uint32_t sums[kTopkWarps];
  __shared__ Search shared;
  const Search search = next_search(scratch, kDigitPasses, sums, &shared);
  if (blockIdx.x == 0 && threadIdx.x == 0) {
    const auto total = static_cast<int64_t>(scratch.total[0]);
    *taken = k < total ? k : total;
  }
  const auto* keys = reinterpret_cast<const uint32_t*>(scratch.grouped);
  const int64_t step = 4 * static_cast<int64_t>(gridDim.x) * kTopkThreads;
  for (int64_t i = 4 * (static_cast<int64_t>(blockIdx.x) * kTopkThreads + threadIdx.x); i < samples;
       i += step) {
    if (i + 4 <= samples) {
      const uint4 four = *reinterpret_cast<const uint4*>(keys + i);
      const uint32_t key[4] = {four.x, four.y, four.z, four.w};
      uint32_t bytes = 0;
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        bytes |= (rank_of(key[e], static_cast<uint32_t>(i + e)) <= search.prefix ? 1u : 0u)
                 << (8 * e);
      }
      *reinterpret_cast<uint32_t*>(mask + i) = bytes;
    } else {
      for (int64_t e = i; e < samples; ++e)
        mask[e] = rank_of(keys[e], static_cast<uint32_t>(e)) <= search.prefix;
    }
  }
}

#if !defined(__CUDACC_RTC__)
// ---- launcher ----

// Cuts `memory` into the parts of TopkScratch; returns the bytes they take, and in *zeroed those to
// clear.
inline int64_t capped_topk_layout(int64_t samples, int64_t classes, char* memory, TopkScratch* out,
                                  int64_t* zeroed) {
  int64_t bytes = 0;
  const auto part = [&](int64_t size) {
    char* const at = memory == nullptr ? nullptr : memory + bytes;
    bytes += ceil_div(size, 16) * 16;
    return at;
  };
  out->total = reinterpret_cast<uint32_t*>(part(4));
  out->digits = reinterpret_cast<uint32_t*>(part(int64_t{kDigitPasses} * kDigitBins * 4));
  out->counts = reinterpret_cast<uint32_t*>(part(classes * 4));
  *zeroed = bytes;
  out->next = reinterpret_cast<uint32_t*>(part(classes * 4));
  out->last = reinterpret_cast<uint64_t*>(part(classes * 8));
  out->search =
      reinterpret_cast<Search*>(part((kDigitPasses + 1) * static_cast<int64_t>(sizeof(Search))));
  out->grouped = reinterpret_cast<uint64_t*>(part(samples * 8));
  return bytes;
}

inline int64_t capped_topk_scratch_bytes(int64_t samples, int64_t classes) {
  TopkScratch scratch;
  int64_t zeroed;
  return capped_topk_layout(samples, classes, nullptr, &scratch, &zeroed);
}

template <typename L>
cudaError_t launch_capped_topk(const float* score,  // [N]
                               const L* label,      // [N] int64, int32 or int16
                               const int64_t* cap,  // [C]
                               int64_t samples, int64_t classes, int64_t k, bool largest,
                               bool* mask,      // [N], 16-byte aligned
                               int64_t* taken,  // []
                               void* memory,    // capped_topk_scratch_bytes, 16-byte aligned
                               cudaStream_t stream) {
  if (samples == 0) return cudaMemsetAsync(taken, 0, sizeof(int64_t), stream);
  if (samples > INT32_MAX || classes > INT32_MAX)
    return cudaErrorInvalidValue;  // ranks hold 32 bits of index
  TopkScratch scratch;
  int64_t zeroed = 0;
  capped_topk_layout(samples, classes, static_cast<char*>(memory), &scratch, &zeroed);
  const cudaError_t cleared = cudaMemsetAsync(memory, 0, static_cast<size_t>(zeroed), stream);
  if (cleared != cudaSuccess) return cleared;
  const int processors = multiprocessors(), c = static_cast<int>(classes);
  const auto at_most = [](int64_t a, int64_t b) {
    return static_cast<unsigned>(a < 1 ? 1 : a < b ? a : b);
  };
  const unsigned tiles = at_most(ceil_div(samples, kTile), 8 * processors);
  const bool shared = classes <= kSharedClasses;
  const auto count = shared ? group_count_kernel<L, true> : group_count_kernel<L, false>;
  const auto group = shared ? group_scatter_kernel<L, true> : group_scatter_kernel<L, false>;
  const auto offsets = group_offsets_kernel;
  // Few large classes: fewer blocks than multiprocessors, so each gets more threads.
  const bool many = samples > classes * kClassFits;
  const int threads = many ? kManyThreads : kTopkThreads;
  const auto select =
      many ? capped_topk_class_kernel<kManyThreads> : capped_topk_class_kernel<kTopkThreads>;
  const auto first = capped_topk_first_digit_kernel<L>;
  const auto digit = capped_topk_digit_kernel;
  const auto finish = capped_topk_mask_kernel;
  BDP_EXT_LAUNCH(count, tiles, kTopkThreads, stream, label, samples, c, scratch.counts);
  BDP_EXT_LAUNCH(offsets, 1, kOffsetThreads, stream, scratch.counts, c, scratch.next);
  BDP_EXT_LAUNCH(group, tiles, kTopkThreads, stream, score, label, samples, c, largest,
                 scratch.next, scratch.grouped);
  const unsigned selects = at_most(classes, 16 * processors);
  BDP_EXT_LAUNCH(select, selects, threads, stream, scratch.grouped, scratch.counts, scratch.next,
                 cap, c, scratch.last, scratch.total);
  BDP_EXT_LAUNCH(first, tiles, kTopkThreads, stream, score, label, samples, c, k, largest, scratch);
  for (int pass = 1; pass < kDigitPasses; ++pass) {
    BDP_EXT_LAUNCH(digit, tiles, kTopkThreads, stream, pass, samples, scratch);
  }
  BDP_EXT_LAUNCH(finish, tiles, kTopkThreads, stream, samples, k, scratch, mask, taken);
  return cudaGetLastError();
}
#endif

}  // namespace bdp_ext
