// The passes of node_sum and norm_relu over memory, kStep floats at a time. Included by
// for_each_isa.h inside bdp_ext::<isa>; no include guard.
//
// A tensor is `count` floats, pixel after pixel. What belongs to a channel is laid out over a
// period of floats, which whole pixels and whole steps fill, so that a lane keeps its channel and
// any number of channels is as fast as another. The last floats may be less than a period.
// Sums over pixels are float32 for kRows periods, float64 beyond.

constexpr int kVectors = 4;
constexpr int kStep = kVectors * kLanes;
constexpr int64_t kRows = 64;
static_assert(kNodePeriod % kStep == 0, "whole steps");

// sum[0, kStep) += the lanes of `part`.
inline void AddTo(double* sum, const F* part) {
  alignas(64) float lanes[kStep];
  for (int v = 0; v < kVectors; ++v) Store(lanes + v * kLanes, part[v]);
  for (int i = 0; i < kStep; ++i) sum[i] += lanes[i];
}

// sum += x - shift, square += (x - shift)^2.
inline void NodeMoments(const float* x, int64_t count, int64_t period, const float* shift,
                        double* sum, double* square) {
  const int64_t rows = count / period;
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t last = first + kRows < rows ? first + kRows : rows;
    for (int64_t j = 0; j < period; j += kStep) {
      F from[kVectors], sums[kVectors], squares[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        from[v] = Load(shift + j + v * kLanes);
        sums[v] = squares[v] = Broadcast(0.0f);
      }
      for (int64_t r = first; r < last; ++r) {
        for (int v = 0; v < kVectors; ++v) {
          const F d = Load(x + r * period + j + v * kLanes) - from[v];
          sums[v] = sums[v] + d;
          squares[v] = Fma(d, d, squares[v]);
        }
      }
      AddTo(sum + j, sums);
      AddTo(square + j, squares);
    }
  }
  for (int64_t i = rows * period; i < count; ++i) {
    const double d = x[i] - shift[i - rows * period];
    sum[i - rows * period] += d;
    square[i - rows * period] += d * d;
  }
}

// Tensors of 2^n bytes lie in the same sets of a cache; read side by side, more of them than it has
// ways push each other out. 16 of 4 MB: 5.6 ms all at once, 3.5 ms by eights; 25: 12.0 and 6.0 ms.
constexpr int64_t kTogether = 8;

// y = the sum over inputs of scale (x - mean), added to y if kAdd, no less than 0 if kRelu.
template <bool kAdd, bool kRelu>
inline void AddInputs(const float* const* inputs, int64_t number, int64_t begin, int64_t count,
                      int64_t period, const float* mean, const float* scale, float* y) {
  const F zero = Broadcast(0.0f);
  const int64_t rows = count / period;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t j = 0; j < period; j += kStep) {
      const int64_t at = begin + r * period + j;
      F total[kVectors];
      for (int v = 0; v < kVectors; ++v) total[v] = kAdd ? Load(y + at + v * kLanes) : zero;
      for (int64_t k = 0; k < number; ++k) {
        const float* x = inputs[k] + at;
        for (int v = 0; v < kVectors; ++v) {
          const int64_t lane = k * period + j + v * kLanes;
          total[v] = Fma(Load(scale + lane), Load(x + v * kLanes) - Load(mean + lane), total[v]);
        }
      }
      for (int v = 0; v < kVectors; ++v) {
        Store(y + at + v * kLanes, kRelu ? Max(zero, total[v]) : total[v]);
      }
    }
  }
  for (int64_t i = rows * period; i < count; ++i) {
    float total = kAdd ? y[begin + i] : 0.0f;
    for (int64_t k = 0; k < number; ++k) {
      const int64_t lane = k * period + i - rows * period;
      total += scale[lane] * (inputs[k][begin + i] - mean[lane]);
    }
    y[begin + i] = kRelu && total < 0.0f ? 0.0f : total;
  }
}

// relu: of one input.
inline void NodeForward(const float* const* inputs, int64_t number, int64_t begin, int64_t count,
                        int64_t period, const float* mean, const float* scale, bool relu,
                        float* y) {
  if (relu) return AddInputs<false, true>(inputs, 1, begin, count, period, mean, scale, y);
  for (int64_t k = 0; k < number; k += kTogether) {
    const int64_t some = number - k < kTogether ? number - k : kTogether;
    const auto add = k == 0 ? AddInputs<false, false> : AddInputs<true, false>;
    add(inputs + k, some, begin, count, period, mean + k * period, scale + k * period, y);
  }
}

// grad_sum += g, product += g (x - mean); with kRelu only where x > mean.
template <bool kRelu>
inline void Products(const float* g, const float* x, int64_t count, int64_t period,
                     const float* mean, double* grad_sum, double* product) {
  const F zero = Broadcast(0.0f);
  const int64_t rows = count / period;
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t last = first + kRows < rows ? first + kRows : rows;
    for (int64_t j = 0; j < period; j += kStep) {
      F from[kVectors], sums[kVectors], products[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        from[v] = Load(mean + j + v * kLanes);
        sums[v] = products[v] = zero;
      }
      for (int64_t r = first; r < last; ++r) {
        for (int v = 0; v < kVectors; ++v) {
          const int64_t at = r * period + j + v * kLanes;
          const F d = Load(x + at) - from[v];
          const F grad = kRelu ? SelectLess(zero, d, Load(g + at), zero) : Load(g + at);
          sums[v] = sums[v] + grad;
          products[v] = Fma(grad, d, products[v]);
        }
      }
      AddTo(grad_sum + j, sums);
      AddTo(product + j, products);
    }
  }
  for (int64_t i = rows * period; i < count; ++i) {
    const int64_t lane = i - rows * period;
    const float d = x[i] - mean[lane];
    const double grad = !kRelu || d > 0.0f ? g[i] : 0.0f;
    grad_sum[lane] += grad;
    product[lane] += grad * d;
  }
}

inline void NodeProducts(const float* g, const float* x, int64_t count, int64_t period,
                         const float* mean, bool relu, double* grad_sum, double* product) {
  relu ? Products<true>(g, x, count, period, mean, grad_sum, product)
       : Products<false>(g, x, count, period, mean, grad_sum, product);
}

// dx = scale g + slope (x - mean) + offset; with kRelu g only where x > mean. With kStream the
// stores go past the cache; dx must be aligned to 64 bytes.
template <bool kRelu, bool kStream>
inline void InputGradient(const float* g, const float* x, int64_t count, int64_t period,
                          const float* mean, const float* scale, const float* slope,
                          const float* offset, float* dx) {
  const F zero = Broadcast(0.0f);
  const int64_t rows = count / period;
  for (int64_t j = 0; j < period; j += kStep) {
    F m[kVectors], a[kVectors], b[kVectors], c[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      m[v] = Load(mean + j + v * kLanes);
      a[v] = Load(scale + j + v * kLanes);
      b[v] = Load(slope + j + v * kLanes);
      c[v] = Load(offset + j + v * kLanes);
    }
    for (int64_t r = 0; r < rows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = r * period + j + v * kLanes;
        const F d = Load(x + at) - m[v];
        const F grad = kRelu ? SelectLess(zero, d, Load(g + at), zero) : Load(g + at);
        const F change = Fma(b[v], d, Fma(a[v], grad, c[v]));
        kStream ? Stream(dx + at, change) : Store(dx + at, change);
      }
    }
  }
  for (int64_t i = rows * period; i < count; ++i) {
    const int64_t lane = i - rows * period;
    const float d = x[i] - mean[lane];
    const float grad = !kRelu || d > 0.0f ? g[i] : 0.0f;
    dx[i] = scale[lane] * grad + (slope[lane] * d + offset[lane]);
  }
}

inline void NodeInputGradient(const float* g, const float* x, int64_t count, int64_t period,
                              const float* mean, const float* scale, const float* slope,
                              const float* offset, bool relu, bool stream, float* dx) {
  relu     ? InputGradient<true, false>(g, x, count, period, mean, scale, slope, offset, dx)
  : stream ? InputGradient<false, true>(g, x, count, period, mean, scale, slope, offset, dx)
           : InputGradient<false, false>(g, x, count, period, mean, scale, slope, offset, dx);
  if (stream) StreamFence();
}

// dx = weight g
inline void NodeScaled(const float* g, int64_t count, float weight, bool stream, float* dx) {
  const F w = Broadcast(weight);
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    stream ? Stream(dx + i, w * Load(g + i)) : Store(dx + i, w * Load(g + i));
  }
  if (stream) StreamFence();
  for (; i < count; ++i) dx[i] = weight * g[i];
}
