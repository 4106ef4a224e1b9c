// The depthwise convolution and its two gradients. Included by for_each_isa.h inside
// bdp_ext::<isa>; no include guard.
//
//   One relation joins the input's column i and the output's o, along each axis:
//       i + padding = o * stride + k * dilation,      k the kernel's index
//   y[o] += x[i] w[k],      grad_x[i] += grad_y[o] w[k],      grad_w[k] += grad_y[o] x[i].
//
// A vector is kLanes channels of a pixel; a strip is a few pixels of a row whose sums stay in
// registers. All indices inside a strip are constants: a pixel is loaded once for every sum that
// takes it. kInside: no pixel of the strip lies in the padding; elsewhere each one is looked at,
// a branch for a load, which hides behind the products. kWhole: all lanes are channels.

constexpr int kStrip = 8;      // outputs of the forward pass, 8 products in flight
constexpr int kGradStrip = 4;  // outputs of the weight gradient: 25 sums, 4 gradients, 1 input
constexpr int64_t kPartial = 256;  // outputs summed in float32 before they join a sum in float64

inline bool Outside(int64_t i, int64_t size) {
  return static_cast<uint64_t>(i) >= static_cast<uint64_t>(size);
}
template <bool kWhole>
inline F LoadChannels(const float* p, int64_t channels) {
  return kWhole ? Load(p) : LoadFirst(p, channels, 0.0f);
}
template <bool kWhole>
inline void StoreChannels(float* p, int64_t channels, F x) {
  kWhole ? Store(p, x) : StoreFirst(p, channels, x);
}

// A row of pixels as a strip sees it: pixel j is `first` + j.
struct Row {
  const float* data;  // the first channel of the vector
  int64_t first;
  int64_t width;
  int64_t channels;  // between pixels
  int64_t left;      // channels of the vector
};
template <bool kWhole>
inline F LoadPixel(const Row& row, int j) {
  return LoadChannels<kWhole>(row.data + (row.first + j) * row.channels, row.left);
}

// y[t] += sum_k x[t * S + k * D] w[k]
template <int K, int S, int D, bool kInside, bool kWhole>
inline void AddToOutputs(const Row& row, const F* w, F* y) {
  constexpr int kStep = S == D ? S : 1;  // what lies between belongs to no output
#pragma GCC unroll 64
  for (int j = 0; j <= (kStrip - 1) * S + (K - 1) * D; j += kStep) {
    if (!kInside && Outside(row.first + j, row.width)) continue;
    const F x = LoadPixel<kWhole>(row, j);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int t = j - k * D;
      if (t >= 0 && t % S == 0 && t / S < kStrip) y[t / S] = Fma(x, w[k], y[t / S]);
    }
  }
}

// How many inputs a strip of the input gradient has: two strides need twice the registers.
template <int S, int D>
constexpr int kInputs = S == 1 ? kStrip : S == D || kLanes == 16 ? kStrip * S : kStrip;
// i + padding of a strip's first input, modulo the stride.
template <int K, int S, int D>
constexpr int kPhase = K / 2 * D % S;

// grad_x[j * S + k * D - kPhase] += grad_y[j] w[k]
template <int K, int S, int D, bool kInside, bool kWhole>
inline void AddToInputs(const Row& row, const F* w, F* grad_x) {
#pragma GCC unroll 64
  for (int j = -(K - 1) * D / S; j <= (kInputs<S, D> - 1 + kPhase<K, S, D>) / S; ++j) {
    if (!kInside && Outside(row.first + j, row.width)) continue;
    const F grad_y = LoadPixel<kWhole>(row, j);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int t = j * S + k * D - kPhase<K, S, D>;
      if (t >= 0 && t < kInputs<S, D>) grad_x[t] = Fma(grad_y, w[k], grad_x[t]);
    }
  }
}

// grad_w[k] += sum_t grad_y[t] x[t * S + k * D]
template <int K, int S, int D, int kOutputs, bool kInside, bool kWhole>
inline void AddToWeights(const Row& row, const F* grad_y, F* grad_w) {
  constexpr int kStep = S == D ? S : 1;
#pragma GCC unroll 64
  for (int j = 0; j <= (kOutputs - 1) * S + (K - 1) * D; j += kStep) {
    if (!kInside && Outside(row.first + j, row.width)) continue;
    const F x = LoadPixel<kWhole>(row, j);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int t = j - k * D;
      if (t >= 0 && t % S == 0 && t / S < kOutputs) grad_w[k] = Fma(grad_y[t / S], x, grad_w[k]);
    }
  }
}
