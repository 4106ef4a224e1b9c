// Included by for_each_isa.h inside namespace bdp_ext::avx512; no include guard.
// kGroup: vectors of a row at a time, as many as leave the registers to the constants of exp.
// F: kLanes floats, D: kLanes / 2 doubles, M: one flag per float. F and D have the operators + - *
// /.

constexpr int kLanes = 16;
constexpr int kGroup = 4;
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
inline void StoreFirst(float* p, int64_t n, F x) { _mm512_mask_storeu_ps(p, First(n), x); }
inline void Stream(float* p, F x) { _mm512_stream_ps(p, x); }  // p aligned to F
inline void StreamFence() { _mm_sfence(); }

inline F Fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
inline F Max(F a, F b) { return _mm512_max_ps(a, b); }  // b where either is NaN
inline M IsNan(F x) { return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q); }
inline bool AllBelow(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) == 0xffff; }
inline bool Any(M m) { return m != 0; }
inline F Select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
inline F SelectLess(F a, F b, F yes, F no) {
  return Select(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), yes, no);
}
// -inf in the one lane, if there is such a lane; x elsewhere.
inline F Without(F x, int64_t lane) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const M here = _mm512_cmpeq_epi32_mask(lanes, _mm512_set1_epi32(static_cast<int32_t>(lane)));
  return _mm512_mask_blend_ps(here, x, Broadcast(-kInfinity));
}
inline float MaxLane(F x) { return _mm512_reduce_max_ps(x); }

// x becomes exp(x), for x <= 80 and to 1.5 ulp; NaN stays NaN, below -40 it stays at 4e-18, nothing
// beside the largest term, which is near 1. 2^(1/32) by table, so that a polynomial of degree 2
// will do (5e-8): it is the multipliers that an exp waits for. Step by step for all vectors at
// once, or the chain of one hides the next ones from the processor.
template <int kVectors>
inline void Exp(F* x) {
  const __m512i low = _mm512_castps_si512(
      _mm512_setr_ps(1.0f, 1.02189715f, 1.04427378f, 1.0671404f, 1.09050773f, 1.11438674f,
                     1.13878863f, 1.16372486f, 1.18920712f, 1.21524736f, 1.24185781f, 1.26905096f,
                     1.29683955f, 1.32523664f, 1.35425555f, 1.38390988f));
  const __m512i high = _mm512_castps_si512(
      _mm512_setr_ps(1.41421356f, 1.44518081f, 1.47682615f, 1.50916443f, 1.54221083f, 1.57598085f,
                     1.61049033f, 1.64575548f, 1.68179283f, 1.7186193f, 1.75625216f, 1.79470908f,
                     1.83400809f, 1.87416763f, 1.91520656f, 1.95714412f));
  const F magic = Broadcast(393216.0f);  // 1.5 * 2^18 rounds to a 32nd
  F t[kVectors], n[kVectors], q[kVectors];
  for (int i = 0; i < kVectors; ++i) x[i] = Max(Broadcast(-40.0f), x[i]);
  for (int i = 0; i < kVectors; ++i) t[i] = Fma(x[i], Broadcast(1.44269504f), magic);
  for (int i = 0; i < kVectors; ++i) n[i] = t[i] - magic;
  for (int i = 0; i < kVectors; ++i) x[i] = Fma(n[i], Broadcast(-0.693147181f), x[i]);
  for (int i = 0; i < kVectors; ++i) q[i] = Fma(x[i], Broadcast(0.5f), Broadcast(1.0000145f));
  for (int i = 0; i < kVectors; ++i) x[i] = q[i] * x[i];
  for (int i = 0; i < kVectors; ++i) {  // by the low five bits
    const F power =
        _mm512_castsi512_ps(_mm512_permutex2var_epi32(low, _mm512_castps_si512(t[i]), high));
    x[i] = Fma(power, x[i], power);
  }
  for (int i = 0; i < kVectors; ++i) x[i] = _mm512_scalef_ps(x[i], n[i]);  // by 2^floor(n)
}

// 2^i for t = 1.5 * 2^23 + 127 + i: the low bits of t are i with float's bias.
inline F PowerOfTwo(F t) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(t), 23));
}

// v[i][j] becomes v[j][i]: pairs, fours, then quarters of vectors.
inline void Transpose(F* v) {
  F a[kLanes], b[kLanes];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    const D low0 = _mm512_castps_pd(a[i]), low1 = _mm512_castps_pd(a[i + 2]);
    const D high0 = _mm512_castps_pd(a[i + 1]), high1 = _mm512_castps_pd(a[i + 3]);
    b[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(low0, low1));
    b[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low0, low1));
    b[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high0, high1));
    b[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high0, high1));
  }
  for (int i = 0; i < 4;
       ++i) {  // b[4 r + i] holds column i of the four rows 4 r in each of its quarters
    const F even0 = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
    const F even1 = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
    const F odd0 = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
    const F odd1 = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
    v[i] = _mm512_shuffle_f32x4(even0, even1, 0x88);
    v[i + 4] = _mm512_shuffle_f32x4(odd0, odd1, 0x88);
    v[i + 8] = _mm512_shuffle_f32x4(even0, even1, 0xdd);
    v[i + 12] = _mm512_shuffle_f32x4(odd0, odd1, 0xdd);
  }
}

inline D WidenLow(F x) { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
inline D WidenHigh(F x) { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }
inline F Narrow(D low, D high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)), _mm512_cvtpd_ps(high), 1);
}
inline D Broadcast64(double x) { return _mm512_set1_pd(x); }
inline D Load64(const double* p) { return _mm512_loadu_pd(p); }
inline void Store64(double* p, D x) { _mm512_storeu_pd(p, x); }
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
