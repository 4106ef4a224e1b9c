// exp(x) of several vectors by a polynomial of degree 6, for instruction sets without AVX-512's
// table look-up (contract: vec_avx512.h). Above 88, where a float's exponent would wrap, it stays
// at exp(88). Included by vec_avx2.h and vec_plain.h inside bdp_ext::<isa>; no include guard.

template <int kVectors>
inline void Exp(F* x) {
  const F magic =
      Broadcast(12582912.0f + 127.0f);  // 1.5 * 2^23 rounds to an integer; 127 is float's bias
  F t[kVectors], q[kVectors];
  const F most = Broadcast(88.0f);
  for (int i = 0; i < kVectors; ++i) {
    x[i] = SelectLess(most, x[i], most, Max(Broadcast(-40.0f), x[i]));  // NaN stays NaN
  }
  for (int i = 0; i < kVectors; ++i) t[i] = Fma(x[i], Broadcast(1.44269504f), magic);
  for (int i = 0; i < kVectors; ++i) x[i] = Fma(t[i] - magic, Broadcast(-0.693147181f), x[i]);
  for (int i = 0; i < kVectors; ++i)
    q[i] = Fma(x[i], Broadcast(1.3814598e-3f), Broadcast(8.3687157e-3f));
  for (int i = 0; i < kVectors; ++i) q[i] = Fma(q[i], x[i], Broadcast(4.1668388e-2f));
  for (int i = 0; i < kVectors; ++i) q[i] = Fma(q[i], x[i], Broadcast(1.6666521e-1f));
  for (int i = 0; i < kVectors; ++i) q[i] = Fma(q[i], x[i], Broadcast(0.49999993f));
  for (int i = 0; i < kVectors; ++i) q[i] = Fma(q[i], x[i], Broadcast(1.0f));
  for (int i = 0; i < kVectors; ++i) q[i] = Fma(q[i], x[i], Broadcast(1.0f));
  for (int i = 0; i < kVectors; ++i) x[i] = q[i] * PowerOfTwo(t[i]);
}
