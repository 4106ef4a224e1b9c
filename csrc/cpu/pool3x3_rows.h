// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.

#include "cpu/pool3x3_kernel.h"

// The outputs' rows [begin, end), numbered through the whole batch.
struct PoolOutputRows {
  template <int S, bool kAverage, bool kMaximum>
  static void Run(const Pool3x3Shape& s, int64_t begin, int64_t end, const float* input,
                  float* average, float* maximum) {
    const int64_t row = s.width * s.channels, out_row = s.out_width * s.channels;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t o = r % s.out_height, y = o * S;
      const float* here = input + (r / s.out_height * s.height + y) * row;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const PoolLine line = {s.width, s.out_width, s.channels, s.channels - c};
        const float* rows[] = {y > 0 ? here - row + c : nullptr, here + c,
                               y + 1 < s.height ? here + row + c : nullptr};
        const float scale = InverseCount<S>(o, s.height);
        float* to_average = kAverage ? average + r * out_row + c : nullptr;
        float* to_maximum = kMaximum ? maximum + r * out_row + c : nullptr;
        line.left >= kLanes
            ? PoolRow<S, kAverage, kMaximum, true>(line, rows, scale, to_average, to_maximum)
            : PoolRow<S, kAverage, kMaximum, false>(line, rows, scale, to_average, to_maximum);
      }
    }
  }
};

// The gradient of kLanes channels of an image, from a row of windows on to the next. Windows touch
// three rows of pixels; those are done that no later window touches.
template <int S, bool kAverage, bool kMaximum, bool kWhole>
struct PoolGradient {
  const Pool3x3Shape& s;
  const PoolLine line;
  const float *grad_average, *grad_maximum, *input;
  float* grad_input;
  float* scratch;  // [3, 3, W', kLanes]

  // Of row y: the largest of each window's three pixels, its place, and the gradient that it gets.
  float* Largest(int64_t y) const { return scratch + y % 3 * s.out_width * kLanes; }
  float* Place(int64_t y) const { return scratch + (3 + y % 3) * s.out_width * kLanes; }
  float* Gradient(int64_t y) const { return scratch + (6 + y % 3) * s.out_width * kLanes; }

  void Windows(int64_t o) const {
    const int64_t y = o * S;
    if (kMaximum) {
      for (int64_t i = o > 0 ? y + 2 - S : 0; i < y + 2 && i < s.height; ++i) {
        LargestOfRow<S, kWhole>(line, input + i * s.width * s.channels, Largest(i), Place(i));
      }
      ToRows(o);
    }
    const int64_t done = o + 1 < s.out_height ? y + S - 1 : s.height;
    for (int64_t i = o > 0 ? y - 1 : 0; i < done; ++i) ToPixels(i);
  }

  void ToRows(int64_t o) const {
    const int64_t y = o * S;
    const float* grad = grad_maximum + o * s.out_width * s.channels;
    const float* below = y + 1 < s.height ? Largest(y + 1) : nullptr;
    if (o == 0) {
      const float* largest[] = {nullptr, Largest(0), below};
      float* to[] = {nullptr, Gradient(0), Gradient(1)};
      GradientToRows<S, true, kWhole>(line, largest, grad, to);
    } else {
      const float* largest[] = {Largest(y - 1), Largest(y), below};
      float* to[] = {Gradient(y - 1), Gradient(y), Gradient(y + 1)};
      GradientToRows<S, false, kWhole>(line, largest, grad, to);
    }
  }

  void ToPixels(int64_t y) const {
    AverageGradient average = {};
    for (int i = 0; kAverage && i < 3; ++i) {
      const int64_t o = (y + i - 1) / S;
      if (y + i == 0 || (y + i - 1) % S != 0 || o >= s.out_height) continue;
      average.grad[i] = grad_average + o * s.out_width * s.channels;
      average.scale[i] = InverseCount<S>(o, s.height);
    }
    GradientToPixels<S, kAverage, kMaximum, kWhole>(line, average, Gradient(y), Place(y),
                                                    grad_input + y * s.width * s.channels);
  }
};

// The images [begin, end): row by row, then by channels, as they lie in memory.
struct PoolInputImages {
  template <int S, bool kAverage, bool kMaximum>
  static void Run(const Pool3x3Shape& s, int64_t begin, int64_t end, const float* grad_average,
                  const float* grad_maximum, const float* input, float* grad_input,
                  float* scratch) {
    const int64_t pixels = s.height * s.width * s.channels;
    const int64_t windows = s.out_height * s.out_width * s.channels;
    for (int64_t r = begin * s.out_height; r < end * s.out_height; ++r) {
      const int64_t i = r / s.out_height, o = r % s.out_height;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const PoolLine line = {s.width, s.out_width, s.channels, s.channels - c};
        const float* of_average = kAverage ? grad_average + i * windows + c : nullptr;
        const float* of_maximum = kMaximum ? grad_maximum + i * windows + c : nullptr;
        const float* from = kMaximum ? input + i * pixels + c : nullptr;
        float *to = grad_input + i * pixels + c, *rows = scratch + 9 * s.out_width * c;
        if (line.left >= kLanes) {
          PoolGradient<S, kAverage, kMaximum, true>{s, line, of_average, of_maximum, from, to, rows}
              .Windows(o);
        } else {
          PoolGradient<S, kAverage, kMaximum, false>{s,    line, of_average, of_maximum,
                                                     from, to,   rows}
              .Windows(o);
        }
      }
    }
  }
};

template <typename Pass, int S, typename... Arguments>
inline void PoolWanted(bool average, bool maximum, Arguments... arguments) {
  if (average && maximum) return Pass::template Run<S, true, true>(arguments...);
  if (average) return Pass::template Run<S, true, false>(arguments...);
  if (maximum) return Pass::template Run<S, false, true>(arguments...);
}
template <typename Pass, typename... Arguments>
inline void PoolStride(bool average, bool maximum, const Pool3x3Shape& s, Arguments... arguments) {
  if (s.stride == 1) return PoolWanted<Pass, 1>(average, maximum, s, arguments...);
  if (s.stride == 2) return PoolWanted<Pass, 2>(average, maximum, s, arguments...);
}

inline void PoolOutputs(const Pool3x3Shape& s, int64_t begin, int64_t end, const float* input,
                        float* average, float* maximum) {
  PoolStride<PoolOutputRows>(average != nullptr, maximum != nullptr, s, begin, end, input, average,
                             maximum);
}
inline void PoolInputs(const Pool3x3Shape& s, int64_t begin, int64_t end, const float* grad_average,
                       const float* grad_maximum, const float* input, float* grad_input,
                       float* scratch) {
  PoolStride<PoolInputImages>(grad_average != nullptr, grad_maximum != nullptr, s, begin, end,
                              grad_average, grad_maximum, input, grad_input, scratch);
}
