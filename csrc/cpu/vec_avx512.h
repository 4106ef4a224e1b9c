// Included by for_each_isa.h inside namespace bdp_ext::avx512; no include guard.
// F: kLanes floats, D: kLanes / 2 doubles, M: one flag per float. F and D have the operators + - *
// /.

constexpr int kLanes = 16;
using F = __m512;
using D = __m512d;
using M = __mmask16;

inline F Broadcast(float x) { return _mm512_set1_ps(x); }
inline F Load(const float* p) { return _mm512_loadu_ps(p); }
inline F Load(const Half* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F Load(const BFloat16* p) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline M First(int64_t n) { return static_cast<M>((1u << n) - 1); }  // 0 <= n <= kLanes

// The first n lanes from memory, `fill` in the others.
inline F LoadFirst(const float* p, int64_t n, float fill) {
  return _mm512_mask_loadu_ps(Broadcast(fill), First(n), p);
}
inline F LoadFirst(const Half* p, int64_t n, float fill) {
  const __m256i bits = _mm256_maskz_loadu_epi16(First(n), p);
  return _mm512_mask_cvtph_ps(Broadcast(fill), First(n), bits);
}
inline F LoadFirst(const BFloat16* p, int64_t n, float fill) {
  const __m512i bits = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(First(n), p));
  return _mm512_mask_blend_ps(First(n), Broadcast(fill),
                              _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16)));
}
inline void Store(float* p, F x) { _mm512_storeu_ps(p, x); }
inline void Stream(float* p, F x) { _mm512_stream_ps(p, x); }  // p aligned to F
inline void StreamFence() { _mm_sfence(); }

inline F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F Max(F a, F b) { return _mm512_max_ps(a, b); }  // b where either is NaN
inline M IsNan(F x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
inline bool Any(M m) { return m != 0; }
inline F Select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
inline F SelectLess(F a, F b, F yes, F no) {
  return Select(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes, no);
}
// `at` in the one lane, x elsewhere.
inline F SetLane(F x, int lane, float at) {
  return _mm512_mask_blend_ps(static_cast<M>(1u << lane), x, Broadcast(at));
}
inline float MaxLane(F x) { return _mm512_reduce_max_ps(x); }

// 2^i for t = 1.5 * 2^23 + 127 + i: the low bits of t are i with float's bias.
inline F PowerOfTwo(F t) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}

inline D WidenLow(F x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
inline D WidenHigh(F x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
inline F Narrow(D low, D high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
inline D Broadcast64(double x) { return _mm512_set1_pd(x); }
inline D Load64(const double* p) { return _mm512_loadu_pd(p); }
inline D Fma(D a, D b, D c) { return _mm512_fmadd_pd(a, b, c); }
inline D Max(D a, D b) { return _mm512_max_pd(a, b); }  // b where either is NaN
inline D Sqrt(D x) { return _mm512_sqrt_pd(x); }
inline double Sum(D x) { return _mm512_reduce_add_pd(x); }
inline D SelectLess(D a, D b, D yes, D no) {
  return _mm512_mask_blend_pd(_mm512_cmp_pd_mask(a, b, _CMP_LT_OQ), no, yes);
}
// 2^i for t = 1.5 * 2^52 + 1023 + i.
inline D PowerOfTwo(D t) {
  return _mm512_castsi512_pd(_mm512_slli_epi64(_mm512_castpd_si512(t), 52));
}

// See vec_common.h. Compressed in a register and stored whole: the compressing store is slow on
// AMD.
inline int64_t Filter(const int32_t* key, int64_t n, int32_t low, int32_t high, int32_t* out) {
  const __m512i above = _mm512_set1_epi32(low), up_to = _mm512_set1_epi32(high);
  int64_t kept = 0, i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m512i x = _mm512_loadu_si512(key + i);
    const M in = _mm512_mask_cmple_epi32_mask(_mm512_cmpgt_epi32_mask(x, above), x, up_to);
    _mm512_storeu_si512(out + kept, _mm512_maskz_compress_epi32(in, x));
    kept += __builtin_popcount(in);
  }
  return kept + ::bdp_ext::Filter(key + i, n - i, low, high, out + kept);
}
