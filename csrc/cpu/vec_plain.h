// Included by for_each_isa.h inside namespace bdp_ext::plain; no include guard. The names are those
// of vec_avx512.h. The compiler's own 16-byte vectors: SSE2 on x86, NEON on ARM.

constexpr int kLanes = 4;
constexpr int kGroup = 2;
typedef float F __attribute__((vector_size(16)));
typedef double D __attribute__((vector_size(16)));
typedef int32_t M __attribute__((vector_size(16)));
typedef int64_t M64 __attribute__((vector_size(16)));

inline F Broadcast(float x) { return F{x, x, x, x}; }
template <typename T>
inline F Load(const T* p) {
  return F{ToFloat(p[0]), ToFloat(p[1]), ToFloat(p[2]), ToFloat(p[3])};
}
template <typename T>
inline F LoadFirst(const T* p, int64_t n, float fill) {
  F x = Broadcast(fill);
  for (int i = 0; i < kLanes && i < n; ++i) x[i] = ToFloat(p[i]);
  return x;
}
inline void Store(float* p, F x) { std::memcpy(p, &x, sizeof(x)); }
inline void StoreFirst(float* p, int64_t n, F x) {
  for (int i = 0; i < kLanes && i < n; ++i) p[i] = x[i];
}
inline void Stream(float* p, F x) { Store(p, x); }
inline void StreamFence() {}

inline F Fma(F a, F b, F c) { return a * b + c; }
inline bool AllBelow(F a, F b) {
  const M m = (M)(a < b);
  return (m[0] & m[1] & m[2] & m[3]) != 0;
}
inline bool Any(M m) { return (m[0] | m[1] | m[2] | m[3]) != 0; }
inline F Select(M m, F yes, F no) { return (F)((m & (M)yes) | (~m & (M)no)); }
inline F SelectLess(F a, F b, F yes, F no) { return Select((M)(a < b), yes, no); }
inline F Max(F a, F b) { return Select((M)(a > b), a, b); }
inline M IsNan(F x) { return (M)(x != x); }
inline F Without(F x, int64_t lane) {
  const int32_t i = static_cast<int32_t>(lane);
  return Select((M)(M{0, 1, 2, 3} == M{i, i, i, i}), Broadcast(-kInfinity), x);
}
inline float MaxLane(F x) {
  const float a = x[0] > x[1] ? x[0] : x[1], b = x[2] > x[3] ? x[2] : x[3];
  return a > b ? a : b;
}
inline F PowerOfTwo(F t) { return (F)((M)t << 23); }

#include "cpu/vec_exp.h"

inline void Transpose(F* v) {
  const F a = v[0], b = v[1], c = v[2], d = v[3];
  for (int i = 0; i < kLanes; ++i) v[i] = F{a[i], b[i], c[i], d[i]};
}

inline D WidenLow(F x) { return D{x[0], x[1]}; }
inline D WidenHigh(F x) { return D{x[2], x[3]}; }
inline F Narrow(D low, D high) {
  return F{static_cast<float>(low[0]), static_cast<float>(low[1]), static_cast<float>(high[0]),
           static_cast<float>(high[1])};
}
inline D Broadcast64(double x) { return D{x, x}; }
inline D Load64(const double* p) { return D{p[0], p[1]}; }
inline void Store64(double* p, D x) { std::memcpy(p, &x, sizeof(x)); }
inline D Fma(D a, D b, D c) { return a * b + c; }
inline D SelectLess(D a, D b, D yes, D no) {
  const M64 m = (M64)(a < b);
  return (D)((m & (M64)yes) | (~m & (M64)no));
}
inline D Max(D a, D b) { return SelectLess(b, a, a, b); }
inline D Sqrt(D x) { return D{std::sqrt(x[0]), std::sqrt(x[1])}; }
inline double Sum(D x) { return x[0] + x[1]; }
inline D PowerOfTwo(D t) { return (D)((M64)t << 52); }
