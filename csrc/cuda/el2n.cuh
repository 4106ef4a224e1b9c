// EL2N: the distance between a row's softmax and its one-hot target (BDP, Eq. 3).
//
//     s = || softmax(z) - onehot(y) ||_2
//
// With m the largest z_j of the rivals j != y, s1 = sum_j exp(z_j - m), s2 = sum_j exp(2 (z_j - m))
// over them, and t = exp(-|z_y - m|):
//
//     s = sqrt(s1^2 + s2) * t / (s1 * t + 1)   where z_y > m
//     s = sqrt(s1^2 + s2) / (s1 + t)           elsewhere
//
// (m, s1, s2) is one pass, merges across threads and cancels nowhere. It is summed in float32; the
// row is finished in float64, since t alone carries the digits of a confident row.
//
// - el2n_small_kernel, C <= 32: 4 logits a lane, 1 to 8 lanes a row.
// - el2n_warp_kernel, C <= 2048: a warp a row, the logits stay in registers.
// - el2n_block_kernel, larger: a block a row, or several that merge where B is small.
//
// An epilogue says what becomes of the score: stored (el2n), or put into the ring
// (update_voe_.cuh).
#pragma once

#include "el2n_row.cuh"

namespace bdp_ext {

constexpr int kEl2nThreads = 128;       // small and warp kernels: 4 warps a block
constexpr int kEl2nBlockThreads = 256;  // block kernel
constexpr int kSmallPerLane = 4;
constexpr int kMaxSmall = 8 * kSmallPerLane;  // largest C of the small kernel
constexpr int kMaxVectorFloats = 64;    // floats a lane of the warp kernel holds: C <= 64 * 32
constexpr int kUnroll = 4;              // 128-bit loads a thread of the block kernel has in flight
constexpr int kMaxSplits = 32;          // one lane of the merging warp for each
constexpr int kMinSplitClasses = 4096;  // 16 KB of float32: below, a merge costs more than it saves
static_assert(kEl2nThreads % kWarp == 0 && kEl2nBlockThreads % kWarp == 0,
              "whole warps: shuffles name every lane");
static_assert(kEl2nBlockThreads / kWarp <= kWarp && kMaxSplits <= kWarp,
              "one warp merges all partial sums");

// ---- epilogue of el2n: the score goes to out[row] ----

struct StoreScore {
  float* out;  // [B]

  __device__ __forceinline__ bool skips(int64_t) const { return false; }

  // What a row's lanes hold from its start to its end: nothing here.
  template <int kLanes>
  struct Row {
    __device__ __forceinline__ Row(const StoreScore& store, int64_t row, bool real, int lane)
        : at(store.out + row), writes(real && lane == 0) {}
    __device__ __forceinline__ void finish(const StoreScore&, float score) const {
      if (writes) *at = score;
    }
    float* at;
    bool writes;
  };
};

// ---- C <= 32: kLanes lanes a row ----

template <typename T, int kLanes, typename Epilogue>
__global__ void __launch_bounds__(kEl2nThreads, 1)
    el2n_small_kernel(const T* __restrict__ logits,        // [B, C]
                      int64_t stride,                      // elements from one row to the next
                      const int64_t* __restrict__ target,  // [B]
                      int64_t rows, int classes, Epilogue epilogue) {
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kEl2nThreads + threadIdx.x) / kLanes;
  const bool real = row < rows;  // the lanes past the last row still take part in the shuffles
  const typename Epilogue::template Row<kLanes> end(epilogue, row, real, lane);

  const int64_t own = real ? __ldg(target + row) : -1;
  const bool valid = own >= 0 && own < classes;
  const T* at = logits + row * stride;
  float z[kSmallPerLane];
#pragma unroll
  for (int i = 0; i < kSmallPerLane; ++i) {
    const int c = lane + i * kLanes;
    z[i] = valid && c < classes && c != own ? load(at + c) : -infinity();
  }
  const float own_logit = valid ? load(at + own) : quiet_nan();

  Rivals rivals = no_rivals();
#pragma unroll
  for (int i = 0; i < kSmallPerLane; ++i) rivals.top = fmaxf(rivals.top, z[i]);
  rivals.top = lanes_max<kLanes>(rivals.top);
  add_rivals(rivals, z);
  rivals.sum = lanes_sum<kLanes>(rivals.sum);
  rivals.squares = lanes_sum<kLanes>(rivals.squares);
  float score = 0.f;
  if (lane == 0) score = finish_row(rivals, own_logit);
  end.finish(epilogue, __shfl_sync(kFullWarp, score, 0, kLanes));
}

// ---- C <= 2048: a warp a row, kVectors vectors a lane ----

template <typename T, int kVectors, typename Epilogue>
__global__ void __launch_bounds__(kEl2nThreads, 1)
    el2n_warp_kernel(const T* __restrict__ logits,        // [B, C]
                     int64_t stride,                      // elements from one row to the next
                     const int64_t* __restrict__ target,  // [B]
                     int64_t rows, int classes, Epilogue epilogue) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = (static_cast<int64_t>(blockIdx.x) * kEl2nThreads + threadIdx.x) / kWarp;
  if (row >= rows) return;  // the whole warp
  if (epilogue.skips(row)) return;
  const typename Epilogue::template Row<kWarp> end(epilogue, row, true, lane);

  const int64_t own = __ldg(target + row);
  const bool valid = own >= 0 && own < classes;
  const RowVectors<T> vectors(logits + row * stride, classes,
                              valid ? static_cast<int>(own) : -kPack<T>);
  const float own_logit = valid ? load(logits + row * stride + own) : quiet_nan();

  float z[kVectors][kPack<T>];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int v = lane + i * kWarp;
    if (vectors.whole(v)) {
      vectors.load_whole(v, z[i]);
    } else {
      vectors.load_part(v, z[i]);
    }
  }

  float top = kLowest;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) top = fmaxf(top, z[i][j]);
  }
  Rivals rivals = no_rivals();
  rivals.top = lanes_max<kWarp>(top);  // known before the first exp: nothing is ever rescaled
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    float sum = 0.f, squares = 0.f;
#pragma unroll
    for (int j = 0; j < kPack<T>; ++j) {
      const float e = __expf(z[i][j] - rivals.top);
      sum += e;
      squares = fmaf(e, e, squares);
    }
    rivals.sum += sum;
    rivals.squares += squares;
  }
  rivals.sum = lanes_sum<kWarp>(rivals.sum);
  rivals.squares = lanes_sum<kWarp>(rivals.squares);
  float score = 0.f;
  if (lane == 0) score = finish_row(rivals, own_logit);
  end.finish(epilogue, __shfl_sync(kFullWarp, score, 0));
}

// ---- larger C: a block a row, or gridDim.y blocks ----

template <typename T, typename Epilogue>
__global__ void __launch_bounds__(kEl2nBlockThreads, 1) el2n_block_kernel(
    const T* __restrict__ logits,        // [B, C]
    int64_t stride,                      // elements from one row to the next
    const int64_t* __restrict__ target,  // [B]
    int classes, Epilogue epilogue,
    Rivals* __restrict__ partial,      // [B, splits], unused where splits is 1
    unsigned* __restrict__ arrived) {  // [B], zero at the start, unused where splits is 1
  constexpr int kWarps = kEl2nBlockThreads / kWarp;
  __shared__ Rivals of_warp[kWarps];
  __shared__ unsigned last;
  const int64_t row = blockIdx.x;
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarp, warp = thread / kWarp;
  const int splits = static_cast<int>(gridDim.y), split = static_cast<int>(blockIdx.y);
  if (epilogue.skips(row)) return;  // every block of the row
  const typename Epilogue::template Row<kWarp> end(epilogue, row, warp == 0,
                                                   lane);  // warp 0 ends the row

  const int64_t own = __ldg(target + row);
  const bool valid = own >= 0 && own < classes;
  const RowVectors<T> vectors(logits + row * stride, classes,
                              valid ? static_cast<int>(own) : -kPack<T>);

  // This block's share of the whole vectors, kUnroll a thread in flight, then single ones.
  const int whole = vectors.end_whole() - vectors.first_whole();
  const int begin =
      vectors.first_whole() + static_cast<int>(static_cast<int64_t>(whole) * split / splits);
  const int stop =
      vectors.first_whole() + static_cast<int>(static_cast<int64_t>(whole) * (split + 1) / splits);
  Rivals rivals = no_rivals();
  int v = begin + thread;
  for (; v + (kUnroll - 1) * kEl2nBlockThreads < stop; v += kUnroll * kEl2nBlockThreads) {
    float z[kUnroll][kPack<T>];
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) vectors.load_whole(v + i * kEl2nBlockThreads, z[i]);
#pragma unroll
    for (int i = 0; i < kUnroll; ++i) add_rivals(rivals, z[i]);
  }
  for (; v < stop; v += kEl2nBlockThreads) {
    float z[kPack<T>];
    vectors.load_whole(v, z);
    add_rivals(rivals, z);
  }
  // The head and the tail that no whole vector covers: one thread of the first and of the last
  // block.
  if (thread == 0 && split == 0 && vectors.first_whole() == 1) {
    float z[kPack<T>];
    vectors.load_part(0, z);
    add_rivals(rivals, z);
  }
  if (thread == kEl2nBlockThreads - 1 && split == splits - 1) {
    float z[kPack<T>];
    vectors.load_part(vectors.end_whole(), z);
    add_rivals(rivals, z);
  }

  rivals = merge_warp(rivals);
  if (lane == 0) of_warp[warp] = rivals;
  __syncthreads();
  if (warp == 0) rivals = merge_warp(lane < kWarps ? of_warp[lane] : no_rivals());

  if (splits > 1) {  // the block that comes last merges all: same order whoever it is
    if (thread == 0) {
      partial[row * splits + split] = rivals;
      __threadfence();
      last = atomicAdd(arrived + row, 1u);
    }
    __syncthreads();
    if (last != static_cast<unsigned>(splits - 1) || warp != 0) return;
    __threadfence();
    // Not through the read-only cache: other blocks of this launch wrote it.
    rivals = merge_warp(lane < splits ? partial[row * splits + lane] : no_rivals());
  }
  if (warp != 0) return;
  float score = 0.f;
  if (lane == 0)
    score = finish_row(rivals, valid ? load(logits + row * stride + own) : quiet_nan());
  end.finish(epilogue, __shfl_sync(kFullWarp, score, 0));
}

#if !defined(__CUDACC_RTC__)
// ---- launcher ----

// Into how many blocks a row is cut. More than one asks for scratch.
inline int el2n_splits(int64_t rows, int64_t classes) {
  if (rows == 0 || classes < 2 * kMinSplitClasses) return 1;
  int64_t splits =
      ceil_div(2 * static_cast<int64_t>(multiprocessors()), rows);  // two blocks on each
  if (splits > classes / kMinSplitClasses) splits = classes / kMinSplitClasses;
  return static_cast<int>(splits > kMaxSplits ? kMaxSplits : splits < 1 ? 1 : splits);
}

// Bytes of scratch the launchers of el2n and update_voe_ want: rows' tickets, then partial sums.
inline int64_t el2n_scratch_bytes(int64_t rows, int64_t classes) {
  const int splits = el2n_splits(rows, classes);
  return splits == 1 ? 0 : rows * static_cast<int64_t>(sizeof(unsigned) + splits * sizeof(Rivals));
}

template <typename T, int kLanes, typename Epilogue>
cudaError_t launch_el2n_small(const T* logits, int64_t stride, const int64_t* target, int64_t rows,
                              int64_t classes, const Epilogue& epilogue, cudaStream_t stream) {
  const auto kernel = el2n_small_kernel<T, kLanes, Epilogue>;
  const auto blocks = static_cast<unsigned>(ceil_div(rows * kLanes, kEl2nThreads));
  BDP_EXT_LAUNCH(kernel, blocks, kEl2nThreads, stream, logits, stride, target, rows,
                 static_cast<int>(classes), epilogue);
  return cudaGetLastError();
}

template <typename T, int kVectors, typename Epilogue>
cudaError_t launch_el2n_warp(const T* logits, int64_t stride, const int64_t* target, int64_t rows,
                             int64_t classes, const Epilogue& epilogue, cudaStream_t stream) {
  const auto kernel = el2n_warp_kernel<T, kVectors, Epilogue>;
  const auto blocks = static_cast<unsigned>(ceil_div(rows * kWarp, kEl2nThreads));
  BDP_EXT_LAUNCH(kernel, blocks, kEl2nThreads, stream, logits, stride, target, rows,
                 static_cast<int>(classes), epilogue);
  return cudaGetLastError();
}

// Any epilogue. Rows times 32 lanes must fit a grid: B < 2^33. scratch: el2n_scratch_bytes, 4-byte
// aligned.
template <typename T, typename Epilogue>
cudaError_t launch_rows(const T* logits, int64_t stride, const int64_t* target, int64_t rows,
                        int64_t classes, const Epilogue& epilogue, void* scratch,
                        cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  if (rows > INT32_MAX || classes > INT32_MAX - kPack<T>) return cudaErrorInvalidValue;
#define BDP_EXT_ROWS(launch, count) \
  launch<T, count>(logits, stride, target, rows, classes, epilogue, stream)
  if (classes <= kSmallPerLane) return BDP_EXT_ROWS(launch_el2n_small, 1);
  if (classes <= 2 * kSmallPerLane) return BDP_EXT_ROWS(launch_el2n_small, 2);
  if (classes <= 4 * kSmallPerLane) return BDP_EXT_ROWS(launch_el2n_small, 4);
  if (classes <= kMaxSmall) return BDP_EXT_ROWS(launch_el2n_small, 8);
  // A row that does not start at a 16-byte boundary sticks into one vector more.
  const bool aligned = reinterpret_cast<uintptr_t>(logits) % 16 == 0 && stride % kPack<T> == 0;
  const int64_t vectors = ceil_div(classes + (aligned ? 0 : kPack<T> - 1), kPack<T>);
  constexpr int kMost = kMaxVectorFloats / kPack<T>;
  if (vectors <= kWarp) return BDP_EXT_ROWS(launch_el2n_warp, 1);
  if (vectors <= 2 * kWarp) return BDP_EXT_ROWS(launch_el2n_warp, 2);
  if (vectors <= 4 * kWarp) return BDP_EXT_ROWS(launch_el2n_warp, 4);
  if (vectors <= 8 * kWarp) return BDP_EXT_ROWS(launch_el2n_warp, 8);
  if (vectors <= kMost * kWarp) return BDP_EXT_ROWS(launch_el2n_warp, kMost);
#undef BDP_EXT_ROWS
  const int splits = el2n_splits(rows, classes);
  const auto arrived = static_cast<unsigned*>(scratch);
  const auto partial = splits == 1 ? nullptr : reinterpret_cast<Rivals*>(arrived + rows);
  if (splits > 1) {
    const cudaError_t error =
        cudaMemsetAsync(arrived, 0, static_cast<size_t>(rows) * sizeof(unsigned), stream);
    if (error != cudaSuccess) return error;
  }
  const auto kernel = el2n_block_kernel<T, Epilogue>;
  const dim3 grid(static_cast<unsigned>(rows), static_cast<unsigned>(splits));
  BDP_EXT_LAUNCH(kernel, grid, kEl2nBlockThreads, stream, logits, stride, target,
                 static_cast<int>(classes), epilogue, partial, arrived);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_el2n(const T* logits,  // [B, C], rows `stride` elements apart
                        int64_t stride,
                        const int64_t* target,  // [B]
                        float* out,             // [B]
                        int64_t rows, int64_t classes, void* scratch, cudaStream_t stream) {
  return launch_rows(logits, stride, target, rows, classes, StoreScore{out}, scratch, stream);
}
#endif

}  // namespace bdp_ext
