// What the el2n kernels share: sums over a row's rivals that merge, the row's score, a row cut into
// 128-bit vectors. The formula stands in el2n.cuh.
#pragma once

#include "common.cuh"

namespace bdp_ext {

// (m, s1, s2) over the rivals seen so far. m starts at -FLT_MAX, not at -inf, so that no difference
// is inf - inf; s1 == 0 then says that there was no finite rival. NaN and +inf make s1 NaN,
// whatever fmaxf drops.
struct Rivals {
  float top, sum, squares;
};

__device__ __forceinline__ Rivals no_rivals() { return {kLowest, 0.f, 0.f}; }

__device__ __forceinline__ Rivals merge(const Rivals& a, const Rivals& b) {
  const float top = fmaxf(a.top, b.top);
  const float ea = expf(a.top - top), eb = expf(b.top - top);
  return {top, a.sum * ea + b.sum * eb, a.squares * (ea * ea) + b.squares * (eb * eb)};
}

// Merge over the warp in a fixed order; every lane gets the result.
__device__ __forceinline__ Rivals merge_warp(Rivals mine) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const Rivals other = {__shfl_xor_sync(kFullWarp, mine.top, step),
                          __shfl_xor_sync(kFullWarp, mine.sum, step),
                          __shfl_xor_sync(kFullWarp, mine.squares, step)};
    mine = merge(mine, other);
  }
  return mine;
}

// kCount logits of rivals (-inf: none) at once. The partial sums of a chunk keep the long sum
// short.
template <int kCount>
__device__ __forceinline__ void add_rivals(Rivals& all, const float (&z)[kCount]) {
  float top = all.top;
#pragma unroll
  for (int i = 0; i < kCount; ++i) top = fmaxf(top, z[i]);
  float sum = 0.f, squares = 0.f;
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const float e = __expf(z[i] - top);  // error 2^-22 of a term <= 1, averaged: 1e-7 of the sum
    sum += e;
    squares = fmaf(e, e, squares);
  }
  const float keep = __expf(all.top - top);
  all.sum = fmaf(all.sum, keep, sum);
  all.squares = fmaf(all.squares, keep * keep, squares);
  all.top = top;
}

// 1 / x and 1 / sqrt(x) to 2^-40 for an x that float32 can hold: one Newton step from the float32
// approximation. The library's float64 division and root call a slow path for operands that cannot
// occur here, and spill around the call.
__device__ __forceinline__ double reciprocal(double x) {
  const double y = __fdividef(1.f, static_cast<float>(x));
  return fma(y, fma(-x, y, 1.0), y);
}
__device__ __forceinline__ double reciprocal_root(double x) {
  const double y = rsqrtf(static_cast<float>(x));
  return fma(0.5 * y, fma(-x * y, y, 1.0), y);
}

__device__ __forceinline__ float finish_row(const Rivals& rivals, float own) {
  if (!(own < infinity())) return quiet_nan();  // NaN or +inf
  if (rivals.sum == 0.f)
    return own > -infinity() ? 0.f : quiet_nan();  // no rival, or nothing at all
  const double sum = rivals.sum, squares = fma(sum, sum, static_cast<double>(rivals.squares));
  const double margin = static_cast<double>(own) - static_cast<double>(rivals.top);
  const double length = squares * reciprocal_root(squares), t = exp(-fabs(margin));
  const bool confident = margin > 0.0;
  const double below = confident ? fma(sum, t, 1.0) : sum + t;  // in [1, C]
  const auto score = static_cast<float>(length * (confident ? t : 1.0) * reciprocal(below));
  return score == score ? score : quiet_nan();
}

// A row cut at 16-byte boundaries. Vector v holds the logits from v * kPack - head on; the first
// and the last vector may stick out of the row.
template <typename T>
struct RowVectors {
  const T* row;
  int classes, own, head;

  __device__ __forceinline__ RowVectors(const T* row, int classes, int own)
      : row(row),
        classes(classes),
        own(own),
        head(static_cast<int>(reinterpret_cast<uintptr_t>(row) / sizeof(T) % kPack<T>)) {}

  __device__ __forceinline__ int first_whole() const { return head == 0 ? 0 : 1; }
  __device__ __forceinline__ int end_whole() const { return (classes + head) / kPack<T>; }
  __device__ __forceinline__ bool whole(int v) const {
    return v >= first_whole() && v < end_whole();
  }

  // Vector v, -inf for the own class.
  __device__ __forceinline__ void load_whole(int v, float (&z)[kPack<T>]) const {
    const int begin = v * kPack<T> - head;
    load_pack(row + begin, z);
    mask_own(begin, z);
  }

  // The same one by one, -inf outside of the row: never reads past either end.
  __device__ __forceinline__ void load_part(int v, float (&z)[kPack<T>]) const {
    const int begin = v * kPack<T> - head;
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) {
      const int c = begin + i;
      z[i] = c >= 0 && c < classes ? load(row + c) : -infinity();
    }
    mask_own(begin, z);
  }

 private:
  __device__ __forceinline__ void mask_own(int begin, float (&z)[kPack<T>]) const {
    if (static_cast<unsigned>(own - begin) >= static_cast<unsigned>(kPack<T>))
      return;  // one test a vector
#pragma unroll
    for (int i = 0; i < kPack<T>; ++i) z[i] = begin + i == own ? -infinity() : z[i];
  }
};

}  // namespace bdp_ext
