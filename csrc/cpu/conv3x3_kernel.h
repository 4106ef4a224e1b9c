// The 3x3 convolution and its gradients by Winograd's F(4x4, 3x3): the transforms of one tile and
// the matrix products. Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.
//
//   A tile is 4x4 outputs y of an image; d are the 6x6 inputs below them, w the 3x3 weights, g the
//   gradient of y. The product of two 6x6 matrices in brackets is taken point by point:
//       y = A^T [ sum over input channels (G w G^T) (B^T d B) ] A,
//       grad_w = G^T [ sum over tiles (B^T d B) (A g A^T) ] G.
//   For each of the 36 points that is a product of matrices over tiles and channels, with a quarter
//   of the multiplications of the plain sum.
//
// The matrices follow from the six points where polynomials are evaluated (Lavin and Gray 2015,
// arXiv 1509.09308): 0, p, -p, q, -q and infinity. With 2/3 and 3/2 for p and q the rounding is
// half of what the usual 1 and 2 leave, and p q = 1 spares products.
//
// Along an axis the points 0, p, -p and q, -q, infinity share no operation: a transform takes one
// half after the other, each small enough for the registers.

#include "cpu/conv3x3_walk.h"

constexpr int kPoints = 6;  // inputs of a tile along an axis, and the points
constexpr int kHalf = 3;    // points of a half
constexpr int kVectors = kBlock / kLanes;

constexpr float kP = 2.0f / 3, kP2 = 4.0f / 9, kP3 = 8.0f / 27;
constexpr float kQ = 3.0f / 2, kQ2 = 9.0f / 4, kQ3 = 27.0f / 8;
constexpr float kP2Q2 = 97.0f / 36;      // p^2 + q^2
constexpr float kScaleP = -81.0f / 130;  // 1 / (2 p^2 (p^2 - q^2))
constexpr float kScaleQ = 8.0f / 65;     // 1 / (2 q^2 (q^2 - p^2))

// Not inline: in a loop over channels the compiler would keep the addresses of all 36 pixels and
// points, on the stack, and take half as long again.
#define BDP_TILE __attribute__((noinline)) inline

// Half of B^T x, for one column of six.
template <int kWhich>
BDP_INLINE void InputPoints(const F* x, F* t) {
  constexpr float kSquare = kWhich == 0 ? kQ2 : kP2, kPoint = kWhich == 0 ? kP : kQ;
  const F even = Fma(Broadcast(-kSquare), x[2], x[4]);
  const F odd = Broadcast(kPoint) * Fma(Broadcast(-kSquare), x[1], x[3]);
  t[kWhich == 0 ? 1 : 0] = even + odd;
  t[kWhich == 0 ? 2 : 1] = even - odd;
  t[kWhich == 0 ? 0 : 2] = kWhich == 0 ? Fma(Broadcast(-kP2Q2), x[2], x[0] + x[4])
                                       : Fma(Broadcast(-kP2Q2), x[3], x[1] + x[5]);
}

// A x, for one column of four.
BDP_INLINE void GradPoints(const F* x, F* t) {
  const F p_even = Fma(Broadcast(kP2), x[2], x[0]), q_even = Fma(Broadcast(kQ2), x[2], x[0]);
  const F p_odd = Broadcast(kP) * Fma(Broadcast(kP2), x[3], x[1]);
  const F q_odd = Broadcast(kQ) * Fma(Broadcast(kQ2), x[3], x[1]);
  t[0] = x[0];
  t[1] = p_even + p_odd;
  t[2] = p_even - p_odd;
  t[3] = q_even + q_odd;
  t[4] = q_even - q_odd;
  t[5] = x[3];
}

// A^T m, for one column of six.
BDP_INLINE void Outputs(const F* m, F* y) {
  const F p_even = m[1] + m[2], q_even = m[3] + m[4], p_odd = m[1] - m[2], q_odd = m[3] - m[4];
  y[0] = (m[0] + p_even) + q_even;
  y[1] = Fma(Broadcast(kP), p_odd, Broadcast(kQ) * q_odd);
  y[2] = Fma(Broadcast(kP2), p_even, Broadcast(kQ2) * q_even);
  y[3] = Fma(Broadcast(kP3), p_odd, Fma(Broadcast(kQ3), q_odd, m[5]));
}

// G w, for one column of three.
BDP_INLINE void WeightPoints(const F* w, F* u) {
  const F p_even = Broadcast(kScaleP) * Fma(Broadcast(kP2), w[2], w[0]);
  const F q_even = Broadcast(kScaleQ) * Fma(Broadcast(kQ2), w[2], w[0]);
  u[0] = w[0];
  u[1] = Fma(Broadcast(kScaleP * kP), w[1], p_even);
  u[2] = Fma(Broadcast(-kScaleP * kP), w[1], p_even);
  u[3] = Fma(Broadcast(kScaleQ * kQ), w[1], q_even);
  u[4] = Fma(Broadcast(-kScaleQ * kQ), w[1], q_even);
  u[5] = w[2];
}

// G^T u, for one column of six.
BDP_INLINE void Weights(const F* u, F* w) {
  const F p = Broadcast(kScaleP) * (u[1] + u[2]), q = Broadcast(kScaleQ) * (u[3] + u[4]);
  w[0] = u[0] + (p + q);
  w[1] = Fma(Broadcast(kScaleP * kP), u[1] - u[2], Broadcast(kScaleQ * kQ) * (u[3] - u[4]));
  w[2] = Fma(Broadcast(kP2), p, Fma(Broadcast(kQ2), q, u[5]));
}

alignas(64) constexpr float kZeros[kBlock] = {};

template <bool kInside>
BDP_INLINE F LoadPixel(const Patch& patch, int i, int j, int64_t channel) {
  const float* at = patch.origin + channel + i * patch.row + j * patch.pixel;
  if (!kInside) at = (patch.rows >> i & patch.columns >> j & 1) ? at : kZeros;
  return Load(at);
}

// Half of B^T d B: three rows of points, point after point `step` floats on.
template <int kWhich, bool kInside>
BDP_TILE void TransformInput(const Patch& patch, int64_t channel, float* v, int64_t step) {
  F t[kPoints][kHalf];
#pragma GCC unroll 6
  for (int j = 0; j < kPoints; ++j) {
    F x[kPoints];
#pragma GCC unroll 6
    for (int i = kWhich; i < kPoints - 1 + kWhich; ++i)
      x[i] = LoadPixel<kInside>(patch, i, j, channel);
    InputPoints<kWhich>(x, t[j]);
  }
#pragma GCC unroll 3
  for (int i = 0; i < kHalf; ++i) {
    const F x[kPoints] = {t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]};
    F points[kPoints];
    InputPoints<0>(x, points);
    InputPoints<1>(x, points + kHalf);
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) Store(v + (i * kPoints + j) * step, points[j]);
  }
}

// A g A^T.
template <bool kInside>
BDP_TILE void TransformGrad(const Patch& patch, int64_t channel, float* v, int64_t step) {
  F t[kTile][kPoints];
#pragma GCC unroll 4
  for (int j = 0; j < kTile; ++j) {
    F x[kTile];
#pragma GCC unroll 4
    for (int i = 0; i < kTile; ++i) x[i] = LoadPixel<kInside>(patch, i, j, channel);
    GradPoints(x, t[j]);
  }
#pragma GCC unroll 6
  for (int i = 0; i < kPoints; ++i) {
    const F x[kTile] = {t[0][i], t[1][i], t[2][i], t[3][i]};
    F points[kPoints];
    GradPoints(x, points);
#pragma GCC unroll 6
    for (int j = 0; j < kPoints; ++j) Store(v + (i * kPoints + j) * step, points[j]);
  }
}

// A^T m A.
template <bool kInside>
BDP_TILE void TransformOutput(const float* m, int64_t step, const Patch& patch, float* origin) {
  F t[kPoints][kTile];
#pragma GCC unroll 6
  for (int j = 0; j < kPoints; ++j) {
    F x[kPoints];
#pragma GCC unroll 6
    for (int i = 0; i < kPoints; ++i) x[i] = Load(m + (i * kPoints + j) * step);
    Outputs(x, t[j]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < kTile; ++i) {
    const F x[kPoints] = {t[0][i], t[1][i], t[2][i], t[3][i], t[4][i], t[5][i]};
    F y[kTile];
    Outputs(x, y);
#pragma GCC unroll 4
    for (int j = 0; j < kTile; ++j) {
      if (kInside || (patch.rows >> i & patch.columns >> j & 1)) {
        Store(origin + i * patch.row + j * patch.pixel, y[j]);
      }
    }
  }
}

// m[r] = sum over depth of v[r][k] u[k], for kRows tiles and kBlocks blocks of output channels.
// v: [depth / 16][.., v_step floats][tile][16], u: [block][depth][16], m: [block][tile][16].
template <int kRows, int kBlocks>
BDP_INLINE void Product(const float* v, int64_t v_step, const float* u, int64_t depth, float* m,
                        int64_t m_step) {
  constexpr int kColumns = kBlocks * kVectors;
  F sum[kRows][kColumns];
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sum[r][c] = Broadcast(0.0f);
  }
  const int64_t u_step = depth * kBlock;
  for (int64_t block = 0; block < depth / kBlock; ++block, v += v_step) {
    for (int k = 0; k < kBlock; ++k, u += kBlock) {
      F b[kColumns];
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) {
        b[c] = Load(u + c / kVectors * u_step + c % kVectors * kLanes);
      }
#pragma GCC unroll 32
      for (int r = 0; r < kRows; ++r) {
        const F a = Broadcast(v[r * kBlock + k]);
#pragma GCC unroll 4
        for (int c = 0; c < kColumns; ++c) sum[r][c] = Fma(a, b[c], sum[r][c]);
      }
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      Store(m + c / kVectors * m_step + r * kBlock + c % kVectors * kLanes, sum[r][c]);
    }
  }
}

// u[r] (+)= sum over tiles of v[tile][r] w[tile], for kRows input channels and kBlocks blocks of
// output channels. v: [tile][16], w: [block][.., w_step floats][tile][16], u: [block][16][16].
template <int kRows, int kBlocks>
BDP_INLINE void SumOverTiles(const float* v, const float* w, int64_t w_step, int64_t tiles,
                             bool first, float* u) {
  constexpr int kColumns = kBlocks * kVectors;
  F sum[kRows][kColumns];
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) sum[r][c] = Broadcast(0.0f);
  }
  for (int64_t tile = 0; tile < tiles; ++tile, v += kBlock, w += kBlock) {
    F b[kColumns];
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      b[c] = Load(w + c / kVectors * w_step + c % kVectors * kLanes);
    }
#pragma GCC unroll 32
    for (int r = 0; r < kRows; ++r) {
      const F a = Broadcast(v[r]);
#pragma GCC unroll 4
      for (int c = 0; c < kColumns; ++c) sum[r][c] = Fma(a, b[c], sum[r][c]);
    }
  }
#pragma GCC unroll 32
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (int c = 0; c < kColumns; ++c) {
      float* at = u + c / kVectors * kBlock * kBlock + r * kBlock + c % kVectors * kLanes;
      Store(at, first ? sum[r][c] : Load(at) + sum[r][c]);
    }
  }
}
