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

constexpr int kStrip = 8;          // outputs of the forward pass, 8 products in flight
constexpr int kGradStrip = 4;      // outputs of the weight gradient: 25 sums, 4 gradients, 1 input
constexpr int64_t kPartial = 256;  // outputs summed in float32 before they join a sum in float64

// Strips are small and many: a call, or a multiplication for an address, would show.
#define BDP_STRIP __attribute__((always_inline)) inline

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

// What the strips of a row have in common.
struct Line {
  int64_t width;     // of the rows that are read
  int64_t channels;  // floats from pixel to pixel
  int64_t left;      // channels of this vector and the later ones
};

// y[t] += sum_k x[t * S + k * D] w[k], x[j] being pixel `first` + j of its row
template <int K, int S, int D, bool kInside, bool kWhole>
BDP_STRIP void AddToOutputs(const Line& line, const float* x, int64_t first, const F* w, F* y) {
  constexpr int kStep = S == D ? S : 1;  // what lies between belongs to no output
#pragma GCC unroll 64
  for (int j = 0; j <= (kStrip - 1) * S + (K - 1) * D; j += kStep, x += kStep * line.channels) {
    if (!kInside && Outside(first + j, line.width)) continue;
    const F pixel = LoadChannels<kWhole>(x, line.left);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int t = j - k * D;
      if (t >= 0 && t % S == 0 && t / S < kStrip) y[t / S] = Fma(pixel, w[k], y[t / S]);
    }
  }
}

// How many inputs a strip of the input gradient has: two strides need twice the registers.
template <int S, int D>
constexpr int kInputs = S == 1                   ? kStrip
                        : S == D || kLanes == 16 ? kStrip * S
                                                 : kStrip;
// i + padding of a strip's first input, modulo the stride.
template <int K, int S, int D>
constexpr int kPhase = K / 2 * D % S;
// How many outputs lie before the one that has the phase's, and still reach the first input.
template <int K, int S, int D>
constexpr int kBefore = (K - 1) * D / S;

// x[j * S + k * D - kPhase] += y[j] w[k], y[j] being pixel `first` + kBefore + j of its row
template <int K, int S, int D, bool kInside, bool kWhole>
BDP_STRIP void AddToInputs(const Line& line, const float* y, int64_t first, const F* w, F* x) {
  constexpr int kAfter = (kInputs<S, D> - 1 + kPhase<K, S, D>) / S;
#pragma GCC unroll 64
  for (int j = -kBefore<K, S, D>; j <= kAfter; ++j, y += line.channels) {
    if (!kInside && Outside(first + kBefore<K, S, D> + j, line.width)) continue;
    const F pixel = LoadChannels<kWhole>(y, line.left);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int t = j * S + k * D - kPhase<K, S, D>;
      if (t >= 0 && t < kInputs<S, D>) x[t] = Fma(pixel, w[k], x[t]);
    }
  }
}

// w[k] += sum_t y[t] x[t * S + k * D], x[j] being pixel `first` + j of its row
template <int K, int S, int D, int kOutputs, bool kInside, bool kWhole>
BDP_STRIP void AddToWeights(const Line& line, const float* x, int64_t first, const F* y, F* w) {
  constexpr int kStep = S == D ? S : 1;
#pragma GCC unroll 64
  for (int j = 0; j <= (kOutputs - 1) * S + (K - 1) * D; j += kStep, x += kStep * line.channels) {
    if (!kInside && Outside(first + j, line.width)) continue;
    const F pixel = LoadChannels<kWhole>(x, line.left);
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      const int t = j - k * D;
      if (t >= 0 && t % S == 0 && t / S < kOutputs) w[k] = Fma(y[t / S], pixel, w[k]);
    }
  }
}
