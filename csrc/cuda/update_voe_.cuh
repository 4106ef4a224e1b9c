// Score a batch, write the scores into the ring and renew those samples' VoE, in one launch
// (BDP, Eq. 3 and 4). For row b with sample i = index[b]:
//
//     window[slot, i] = s(z_b, y_b)
//     voe[i]          = VoE of window[:, i]
//
// The kernels are those of el2n.cuh; only the epilogue differs. A row's lanes fetch the other K - 1
// scores of its sample before they read the logits, so that the two latencies overlap, and hand
// them round by shuffles.
//
// Where a sample stands in several rows the last one wins. For B <= kMaxScan each row looks through
// the rows after it (B^2/2 comparisons over all threads: 0.5 M at B = 1024). Larger batches take
// two short launches more, O(B): each row claims its sample's cell window[slot, i] with atomicMax
// over row numbers, and the winner then overwrites its claim.
#pragma once

#include "el2n.cuh"
#include "variance.cuh"

namespace bdp_ext {

constexpr int64_t kMaxScan = 4096;
constexpr int kClaimThreads = 256;
constexpr int kRing =
    32;  // scores of a sample that its row's lanes hold together; a longer ring is read from memory
// No score has the sign bit set, so a claim is never mistaken for one: 0 <= s, and NaN is written
// as quiet_nan().
constexpr unsigned kClaim = 0x80000000u;

struct UpdateRing {
  float* window;         // [K, N]
  float* voe;            // [N]
  const int64_t* index;  // [B]
  int64_t samples, rows;
  int slots, slot;
  bool claimed;  // the cells hold claims: no scan

  __device__ __forceinline__ bool skips(int64_t row) const {
    const int64_t sample = __ldg(index + row);
    return sample < 0 || sample >= samples;
  }

  template <int kLanes>
  struct Row {
    static constexpr int kHeld = kRing / kLanes;  // lane l holds the slots l, l + kLanes, ...
    static_assert(kHeld * kLanes == kRing, "the lanes share the ring evenly");

    __device__ __forceinline__ Row(const UpdateRing& ring, int64_t row, bool real, int lane)
        : row(row), lane(lane) {
      sample = real ? __ldg(ring.index + row) : -1;
      if (sample >= ring.samples) sample = -1;
#pragma unroll
      for (int i = 0; i < kHeld; ++i) {
        const int k = lane + i * kLanes;
        // Not the cell of this epoch: the row that wins the sample may be writing it.
        const bool wanted = sample >= 0 && k < ring.slots && k != ring.slot;
        held[i] = wanted ? ring.window[k * ring.samples + sample] : quiet_nan();
      }
    }

    // All lanes of the warp, with the same score in those of one row.
    __device__ __forceinline__ void finish(const UpdateRing& ring, float score) const {
      const bool wins = !superseded(ring) && sample >= 0;  // in this order: all lanes vote
      float variance = 0.f;
      if (ring.slots <= kRing) {  // the same for the whole grid
        variance = variance_of([&](const auto& take) {
#pragma unroll
          for (int i = 0; i < kHeld; ++i) {
            for (int l = 0; l < kLanes && i * kLanes + l < ring.slots; ++l) {
              const float other = __shfl_sync(kFullWarp, held[i], l, kLanes);
              take(i * kLanes + l == ring.slot ? score : other);
            }
          }
        });
      } else if (wins && lane == 0) {
        const float* const column = ring.window + sample;
        variance = variance_of([&](const auto& take) {
          for (int k = 0; k < ring.slots; ++k)
            take(k == ring.slot ? score : column[k * ring.samples]);
        });
      }
      if (wins && lane == 0) {
        store_relaxed(ring.window + ring.slot * ring.samples + sample, score);
        ring.voe[sample] = variance;
      }
    }

   private:
    __device__ __forceinline__ bool superseded(const UpdateRing& ring) const {
      if (ring.claimed) {
        if (sample < 0) return true;
        const float cell = load_relaxed(ring.window + ring.slot * ring.samples + sample);
        return __float_as_uint(cell) != (kClaim | static_cast<unsigned>(row + 1));
      }
      bool later = false;
      for (int64_t b = row + 1 + lane; b < ring.rows; b += kLanes)
        later |= __ldg(ring.index + b) == sample;
      return lanes_any<kLanes>(later);
    }

    float held[kHeld];
    int64_t row, sample;
    int lane;
  };
};

// Two launches: every named cell becomes the lowest claim, then the highest row number takes it.
template <bool kReset>
__global__ void __launch_bounds__(kClaimThreads, 1)
    update_voe_claim_kernel(float* __restrict__ cells,  // [N], the window's row of this epoch
                            int64_t samples,
                            const int64_t* __restrict__ index,  // [B]
                            int64_t rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kClaimThreads + threadIdx.x;
  if (row >= rows) return;
  const int64_t sample = __ldg(index + row);
  if (sample < 0 || sample >= samples) return;
  if (kReset) {
    store_relaxed(cells + sample, __uint_as_float(kClaim));
  } else {
    atomicMax(reinterpret_cast<unsigned*>(cells + sample), kClaim | static_cast<unsigned>(row + 1));
  }
}

#if !defined(__CUDACC_RTC__)
template <typename T>
cudaError_t launch_update_voe_(float* window,  // [K, N]
                               float* voe,     // [N]
                               int64_t slots, int64_t samples, int64_t slot,
                               const int64_t* index,  // [B]
                               const T* logits,       // [B, C], rows `stride` elements apart
                               int64_t stride,
                               const int64_t* target,  // [B]
                               int64_t rows, int64_t classes,
                               void* scratch,  // el2n_scratch_bytes(B, C)
                               cudaStream_t stream) {
  if (rows == 0 || samples == 0) return cudaSuccess;
  if (rows >= INT32_MAX || slots > INT32_MAX) return cudaErrorInvalidValue;
  const bool claimed = rows > kMaxScan;
  if (claimed) {
    const auto blocks = static_cast<unsigned>(ceil_div(rows, kClaimThreads));
    float* cells = window + slot * samples;
    const auto reset = update_voe_claim_kernel<true>;
    const auto claim = update_voe_claim_kernel<false>;
    BDP_EXT_LAUNCH(reset, blocks, kClaimThreads, stream, cells, samples, index, rows);
    BDP_EXT_LAUNCH(claim, blocks, kClaimThreads, stream, cells, samples, index, rows);
    const cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess) return error;
  }
  const UpdateRing ring{
      window, voe, index, samples, rows, static_cast<int>(slots), static_cast<int>(slot), claimed};
  return launch_rows(logits, stride, target, rows, classes, ring, scratch, stream);
}
#endif

}  // namespace bdp_ext
