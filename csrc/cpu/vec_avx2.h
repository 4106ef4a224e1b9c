// Included by for_each_isa.h inside namespace bdp_ext::avx2; no include guard. The names are those
// of vec_avx512.h.

constexpr int kLanes = 8;
constexpr int kGroup = 4;
using F = __m256;
using D = __m256d;
using M = __m256;

inline F Broadcast(float x) { return _mm256_set1_ps(x); }
inline F Load(const float* p) { return _mm256_loadu_ps(p); }
inline F Load(const Half* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline F Load(const BFloat16* p) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline __m256i First(int64_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int32_t>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F LoadFirst(const float* p, int64_t n, float fill) {
  const __m256i first = First(n);
  return _mm256_blendv_ps(Broadcast(fill), _mm256_maskload_ps(p, first),
                          _mm256_castsi256_ps(first));
}
template <typename T>
inline F LoadFirst(const T* p, int64_t n, float fill) {
  alignas(32) float lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = i < n ? ToFloat(p[i]) : fill;
  return _mm256_load_ps(lanes);
}
inline void Store(float* p, F x) { _mm256_storeu_ps(p, x); }
// 0 <= n < kLanes. In pieces: AMD takes a dozen cycles for a store by mask.
inline void StoreFirst(float* p, int64_t n, F x) {
  __m128 rest = _mm256_castps256_ps128(x);
  if (n & 4) {
    _mm_storeu_ps(p, rest);
    rest = _mm256_extractf128_ps(x, 1);
    p += 4;
  }
  if (n & 2) {
    _mm_storel_pi(reinterpret_cast<__m64*>(p), rest);
    rest = _mm_movehl_ps(rest, rest);
    p += 2;
  }
  if (n & 1) _mm_store_ss(p, rest);
}
inline void Stream(float* p, F x) { _mm256_stream_ps(p, x); }
inline void StreamFence() { _mm_sfence(); }

inline F Fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
inline F Max(F a, F b) { return _mm256_max_ps(a, b); }
inline M IsNan(F x) { return _mm256_cmp_ps(x, x, _CMP_UNORD_Q); }
inline bool AllBelow(F a, F b) {
  return _mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)) == 0xff;
}
inline bool Any(M m) { return _mm256_movemask_ps(m) != 0; }
inline F Select(M m, F yes, F no) { return _mm256_blendv_ps(no, yes, m); }
inline F SelectLess(F a, F b, F yes, F no) {
  return Select(_mm256_cmp_ps(a, b, _CMP_LT_OQ), yes, no);
}
inline F Without(F x, int64_t lane) {
  const __m256i here = _mm256_cmpeq_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                          _mm256_set1_epi32(static_cast<int32_t>(lane)));
  return Select(_mm256_castsi256_ps(here), Broadcast(-kInfinity), x);
}
inline float MaxLane(F x) {
  __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  half = _mm_max_ps(half, _mm_movehl_ps(half, half));
  return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
inline F PowerOfTwo(F t) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(t), 23));
}

#include "cpu/vec_exp.h"

inline void Transpose(F* v) {
  F a[kLanes], b[kLanes];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    b[i] = _mm256_shuffle_ps(a[i], a[i + 2], 0x44);
    b[i + 1] = _mm256_shuffle_ps(a[i], a[i + 2], 0xee);
    b[i + 2] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0x44);
    b[i + 3] = _mm256_shuffle_ps(a[i + 1], a[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
    v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
  }
}

inline D WidenLow(F x) { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
inline D WidenHigh(F x) { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }
inline F Narrow(D low, D high) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)), _mm256_cvtpd_ps(high),
                              1);
}
inline D Broadcast64(double x) { return _mm256_set1_pd(x); }
inline D Load64(const double* p) { return _mm256_loadu_pd(p); }
inline void Store64(double* p, D x) { _mm256_storeu_pd(p, x); }
inline D Fma(D a, D b, D c) { return _mm256_fmadd_pd(a, b, c); }
inline D Max(D a, D b) { return _mm256_max_pd(a, b); }
inline D Sqrt(D x) { return _mm256_sqrt_pd(x); }
inline double Sum(D x) {
  const __m128d half = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd(x, 1));
  return _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)));
}
inline D SelectLess(D a, D b, D yes, D no) {
  return _mm256_blendv_pd(no, yes, _mm256_cmp_pd(a, b, _CMP_LT_OQ));
}
inline D PowerOfTwo(D t) {
  return _mm256_castsi256_pd(_mm256_slli_epi64(_mm256_castpd_si256(t), 52));
}
