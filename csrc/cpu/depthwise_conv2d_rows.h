// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard. Rows are numbered through the
// whole batch. taps: the weight as [kernel * kernel, tap_stride], whole vectors of channels.

#include "cpu/depthwise_conv2d_kernel.h"

// The kernel's rows [begin, end) that meet a row, and what they read.
struct Taps {
  int begin, end;
  const float* data;    // the row that the first one reads, from the image's first column
  const float* weight;  // of the first one
};

template <int K, int S, int D, bool kInside, bool kWhole>
BDP_STRIP void OutputStrip(const Line& line, Taps taps, int64_t row_stride, int64_t tap_stride,
                           int64_t first, int64_t outputs, float* output) {
  F y[kStrip], w[K];
#pragma GCC unroll 8
  for (int t = 0; t < kStrip; ++t) y[t] = Broadcast(0.0f);
  taps.data += first * line.channels;
#pragma GCC unroll 1
  for (int k = taps.begin; k < taps.end; ++k) {
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) w[i] = Load(taps.weight + i * tap_stride);
    AddToOutputs<K, S, D, kInside, kWhole>(line, taps.data, first, w, y);
    taps.data += row_stride;
    taps.weight += K * tap_stride;
  }
#pragma GCC unroll 8
  for (int t = 0; t < kStrip; ++t, output += line.channels) {
    if (kInside || t < outputs) StoreChannels<kWhole>(output, line.left, y[t]);
  }
}

template <int K, int S, int D, bool kWhole>
inline void OutputRow(const DepthwiseConv2dShape& s, const Line& line, const Taps& taps,
                      int64_t tap_stride, float* output) {
  const int64_t row_stride = D * s.width * s.channels;
  for (int64_t o = 0; o < s.out_width; o += kStrip, output += kStrip * s.channels) {
    const int64_t first = o * S - s.padding;
    if (first >= 0 && o + kStrip <= s.out_width &&
        first + (kStrip - 1) * S + (K - 1) * D < s.width) {
      OutputStrip<K, S, D, true, kWhole>(line, taps, row_stride, tap_stride, first, 0, output);
    } else {
      OutputStrip<K, S, D, false, kWhole>(line, taps, row_stride, tap_stride, first,
                                          s.out_width - o, output);
    }
  }
}

struct OutputRows {
  // output's rows [begin, end)
  template <int K, int S, int D>
  static void Run(const DepthwiseConv2dShape& s, const float* input, const float* weight,
                  int64_t tap_stride, int64_t begin, int64_t end, float* output) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t top = r % s.out_height * S - s.padding;
      Taps taps = {0, K, nullptr, nullptr};
      while (taps.begin < K && top + taps.begin * D < 0) ++taps.begin;
      while (taps.end > taps.begin && top + (taps.end - 1) * D >= s.height) --taps.end;
      const int64_t row = r / s.out_height * s.height + top + taps.begin * D;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const Line line = {s.width, s.channels, s.channels - c};
        taps.data = input + row * s.width * s.channels + c;
        taps.weight = weight + taps.begin * K * tap_stride + c;
        float* to = output + r * s.out_width * s.channels + c;
        line.left >= kLanes ? OutputRow<K, S, D, true>(s, line, taps, tap_stride, to)
                            : OutputRow<K, S, D, false>(s, line, taps, tap_stride, to);
      }
    }
  }
};

// How far apart the kernel's rows are that meet the same row of inputs.
template <int S, int D>
constexpr int kApart = S == D ? 1 : S;

template <int K, int S, int D, bool kInside, bool kWhole>
BDP_STRIP void InputStrip(const Line& line, Taps taps, int64_t row_stride, int64_t tap_stride,
                          int64_t first, int64_t begin, int64_t end, float* grad_input) {
  F x[kInputs<S, D>], w[K];
#pragma GCC unroll 16
  for (int t = 0; t < kInputs<S, D>; ++t) x[t] = Broadcast(0.0f);
  taps.data += first * line.channels;
#pragma GCC unroll 1
  for (int k = taps.begin; k < taps.end; k += kApart<S, D>) {
#pragma GCC unroll 8
    for (int i = 0; i < K; ++i) w[i] = Load(taps.weight + i * tap_stride);
    AddToInputs<K, S, D, kInside, kWhole>(line, taps.data, first, w, x);
    taps.data -= row_stride;
    taps.weight += kApart<S, D> * K * tap_stride;
  }
#pragma GCC unroll 16
  for (int t = 0; t < kInputs<S, D>; ++t, grad_input += line.channels) {
    if (kInside || (t >= begin && t < end)) StoreChannels<kWhole>(grad_input, line.left, x[t]);
  }
}

template <int K, int S, int D, bool kWhole>
inline void InputRow(const DepthwiseConv2dShape& s, const Line& line, const Taps& taps,
                     int64_t tap_stride, float* grad_input) {
  constexpr int kSize = kInputs<S, D>, kShift = kPhase<K, S, D>;
  constexpr int kReach = kBefore<K, S, D> + (kSize - 1 + kShift) / S;
  const int64_t row_stride = kApart<S, D> * D / S * s.out_width * s.channels;
  const int64_t start = -((s.padding + kShift) % S);
  for (int64_t i = start; i < s.width; i += kSize) {
    const int64_t first = (i + s.padding - kShift) / S - kBefore<K, S, D>;
    float* to = grad_input + i * s.channels;
    if (i >= 0 && i + kSize <= s.width && first >= 0 && first + kReach < s.out_width) {
      InputStrip<K, S, D, true, kWhole>(line, taps, row_stride, tap_stride, first, 0, 0, to);
    } else {
      InputStrip<K, S, D, false, kWhole>(line, taps, row_stride, tap_stride, first, -i, s.width - i,
                                         to);
    }
  }
}

struct InputRows {
  // grad_input's rows [begin, end)
  template <int K, int S, int D>
  static void Run(const DepthwiseConv2dShape& s, const float* grad, const float* weight,
                  int64_t tap_stride, int64_t begin, int64_t end, float* grad_input) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t bottom = r % s.height + s.padding;
      Taps taps = {0, K, nullptr, nullptr};
      while (taps.begin < K &&
             ((bottom - taps.begin * D) % S != 0 || bottom - taps.begin * D >= s.out_height * S)) {
        ++taps.begin;
      }
      while (taps.end > taps.begin && bottom < (taps.end - 1) * D) --taps.end;
      const int64_t row = r / s.height * s.out_height + (bottom - taps.begin * D) / S;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const Line line = {s.out_width, s.channels, s.channels - c};
        taps.data = grad + row * s.out_width * s.channels + c;
        taps.weight = weight + taps.begin * K * tap_stride + c;
        float* to = grad_input + r * s.width * s.channels + c;
        line.left >= kLanes ? InputRow<K, S, D, true>(s, line, taps, tap_stride, to)
                            : InputRow<K, S, D, false>(s, line, taps, tap_stride, to);
      }
    }
  }
};

// How many of the kernel's rows are summed at once: as many as there are registers.
template <int K>
constexpr int kTogether = kLanes == 16 || K == 3 ? K : 2;

// One strip for every kernel row; rows[k] is null where that lies in the padding.
template <int K, int S, int D, int kOutputs, bool kInside, bool kWhole>
BDP_STRIP void WeightStrip(const Line& line, const float* const* rows, int64_t first,
                           const float* grad, F* sum) {
  F y[kOutputs];
#pragma GCC unroll 8
  for (int t = 0; t < kOutputs; ++t, grad += line.channels) {
    y[t] = LoadChannels<kWhole>(grad, line.left);
  }
#pragma GCC unroll 8
  for (int k = 0; k < kTogether<K>; ++k) {
    if (rows[k] == nullptr) continue;
    const float* x = rows[k] + first * line.channels;
    AddToWeights<K, S, D, kOutputs, kInside, kWhole>(line, x, first, y, sum + k * K);
  }
}

// sum[kTogether * K] for the kernel's rows from `top` on and the output's rows [begin, end).
template <int K, int S, int D, bool kWhole>
inline void WeightRows(const DepthwiseConv2dShape& s, const Line& line, const float* grad,
                       const float* input, int top, int64_t begin, int64_t end, F* sum_out) {
  constexpr int kReach = (kGradStrip - 1) * S + (K - 1) * D;
  F sum[kTogether<K> * K];
#pragma GCC unroll 32
  for (int k = 0; k < kTogether<K> * K; ++k) sum[k] = Broadcast(0.0f);
  for (int64_t r = begin; r < end; ++r) {
    const float* rows[kTogether<K>];
    for (int k = 0; k < kTogether<K>; ++k) {
      const int64_t i = r % s.out_height * S + (top + k) * D - s.padding;
      const int64_t row = r / s.out_height * s.height + i;
      rows[k] = top + k >= K || Outside(i, s.height) ? nullptr : input + row * s.width * s.channels;
    }
    const float* y = grad + r * s.out_width * s.channels;
    int64_t o = 0, first = -s.padding;
    for (; o + kGradStrip <= s.out_width; o += kGradStrip, first += kGradStrip * S) {
      if (first >= 0 && first + kReach < s.width) {
        WeightStrip<K, S, D, kGradStrip, true, kWhole>(line, rows, first, y, sum);
      } else {
        WeightStrip<K, S, D, kGradStrip, false, kWhole>(line, rows, first, y, sum);
      }
      y += kGradStrip * s.channels;
    }
    for (; o < s.out_width; ++o, first += S, y += s.channels) {
      WeightStrip<K, S, D, 1, false, kWhole>(line, rows, first, y, sum);
    }
  }
#pragma GCC unroll 32
  for (int k = 0; k < kTogether<K> * K; ++k) sum_out[k] = sum[k];
}

struct WeightSums {
  // Adds the output's rows [begin, end) to total [kernel * kernel, tap_stride].
  template <int K, int S, int D>
  static void Run(const DepthwiseConv2dShape& s, const float* grad, const float* input,
                  int64_t tap_stride, int64_t begin, int64_t end, double* total) {
    const int64_t step = s.out_width < kPartial ? kPartial / s.out_width : 1;
    for (int64_t from = begin; from < end; from += step) {
      const int64_t to = from + step < end ? from + step : end;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const Line line = {s.width, s.channels, s.channels - c};
        for (int top = 0; top < K; top += kTogether<K>) {
          F sum[kTogether<K> * K];
          line.left >= kLanes
              ? WeightRows<K, S, D, true>(s, line, grad + c, input + c, top, from, to, sum)
              : WeightRows<K, S, D, false>(s, line, grad + c, input + c, top, from, to, sum);
          for (int k = 0; k < kTogether<K> * K && top * K + k < K * K; ++k) {
            double* low = total + (top * K + k) * tap_stride + c;
            double* high = low + kLanes / 2;
            Store64(low, Load64(low) + WidenLow(sum[k]));
            Store64(high, Load64(high) + WidenHigh(sum[k]));
          }
        }
      }
    }
  }
};

template <typename Pass, typename... Arguments>
inline void ForShape(const DepthwiseConv2dShape& s, Arguments... arguments) {
  switch (s.kernel * 100 + s.stride * 10 + s.dilation) {
    case 311:
      return Pass::template Run<3, 1, 1>(s, arguments...);
    case 312:
      return Pass::template Run<3, 1, 2>(s, arguments...);
    case 321:
      return Pass::template Run<3, 2, 1>(s, arguments...);
    case 322:
      return Pass::template Run<3, 2, 2>(s, arguments...);
    case 511:
      return Pass::template Run<5, 1, 1>(s, arguments...);
    case 512:
      return Pass::template Run<5, 1, 2>(s, arguments...);
    case 521:
      return Pass::template Run<5, 2, 1>(s, arguments...);
    case 522:
      return Pass::template Run<5, 2, 2>(s, arguments...);
  }
}

inline void DepthwiseOutputRows(const DepthwiseConv2dShape& s, const float* input,
                                const float* taps, int64_t tap_stride, int64_t begin, int64_t end,
                                float* output) {
  ForShape<OutputRows>(s, input, taps, tap_stride, begin, end, output);
}
inline void DepthwiseInputRows(const DepthwiseConv2dShape& s, const float* grad, const float* taps,
                               int64_t tap_stride, int64_t begin, int64_t end, float* grad_input) {
  ForShape<InputRows>(s, grad, taps, tap_stride, begin, end, grad_input);
}
inline void DepthwiseWeightSums(const DepthwiseConv2dShape& s, const float* grad,
                                const float* input, int64_t tap_stride, int64_t begin, int64_t end,
                                double* total) {
  ForShape<WeightSums>(s, grad, input, tap_stride, begin, end, total);
}
