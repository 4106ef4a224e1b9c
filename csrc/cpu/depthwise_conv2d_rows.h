// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard. Rows are numbered through the
// whole batch. taps: the weight as [kernel * kernel, tap_stride], whole vectors of channels.

#include "cpu/depthwise_conv2d_kernel.h"

template <int K>
inline void LoadTaps(const float* taps, int64_t tap_stride, F* w) {
#pragma GCC unroll 8
  for (int k = 0; k < K; ++k) w[k] = Load(taps + k * tap_stride);
}

template <int K, int S, int D, bool kInside, bool kWhole>
inline void OutputStrip(const DepthwiseConv2dShape& s, const float* input, const float* taps,
                        int64_t tap_stride, int64_t top, Row row, int64_t outputs, float* output) {
  F y[kStrip], w[K];
  for (int t = 0; t < kStrip; ++t) y[t] = Broadcast(0.0f);
  for (int k = 0; k < K; ++k) {
    if (Outside(top + k * D, s.height)) continue;
    row.data = input + (top + k * D) * s.width * s.channels;
    LoadTaps<K>(taps + k * K * tap_stride, tap_stride, w);
    AddToOutputs<K, S, D, kInside, kWhole>(row, w, y);
  }
#pragma GCC unroll 8
  for (int t = 0; t < kStrip; ++t) {
    if (kInside || t < outputs) StoreChannels<kWhole>(output + t * s.channels, row.left, y[t]);
  }
}

struct OutputRows {
  // output's rows [begin, end)
  template <int K, int S, int D>
  static void Run(const DepthwiseConv2dShape& s, const float* input, const float* taps,
                  int64_t tap_stride, int64_t begin, int64_t end, float* output) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t top = r % s.out_height * S - s.padding;
      const float* image = input + r / s.out_height * s.height * s.width * s.channels;
      for (int64_t o = 0; o < s.out_width; o += kStrip) {
        const int64_t first = o * S - s.padding;
        const bool inside = o + kStrip <= s.out_width && first >= 0 &&
                            first + (kStrip - 1) * S + (K - 1) * D < s.width;
        for (int64_t c = 0; c < s.channels; c += kLanes) {
          const Row row = {nullptr, first, s.width, s.channels, s.channels - c};
          const bool whole = row.left >= kLanes;
          const auto strip = inside && whole ? &OutputStrip<K, S, D, true, true>
                             : inside        ? &OutputStrip<K, S, D, true, false>
                             : whole         ? &OutputStrip<K, S, D, false, true>
                                             : &OutputStrip<K, S, D, false, false>;
          strip(s, image + c, taps + c, tap_stride, top, row, s.out_width - o,
                output + (r * s.out_width + o) * s.channels + c);
        }
      }
    }
  }
};

template <int K, int S, int D, bool kInside, bool kWhole>
inline void InputStrip(const DepthwiseConv2dShape& s, const float* grad, const float* taps,
                       int64_t tap_stride, int64_t bottom, Row row, int64_t begin, int64_t end,
                       float* grad_input) {
  constexpr int kSize = kInputs<S, D>;
  F x[kSize], w[K];
  for (int t = 0; t < kSize; ++t) x[t] = Broadcast(0.0f);
  for (int k = 0; k < K; ++k) {
    const int64_t above = bottom - k * D;
    if (above < 0 || above % S != 0 || above / S >= s.out_height) continue;
    row.data = grad + above / S * s.out_width * s.channels;
    LoadTaps<K>(taps + k * K * tap_stride, tap_stride, w);
    AddToInputs<K, S, D, kInside, kWhole>(row, w, x);
  }
#pragma GCC unroll 16
  for (int t = 0; t < kSize; ++t) {
    if (kInside || (t >= begin && t < end)) {
      StoreChannels<kWhole>(grad_input + t * s.channels, row.left, x[t]);
    }
  }
}

struct InputRows {
  // grad_input's rows [begin, end)
  template <int K, int S, int D>
  static void Run(const DepthwiseConv2dShape& s, const float* grad, const float* taps,
                  int64_t tap_stride, int64_t begin, int64_t end, float* grad_input) {
    constexpr int kSize = kInputs<S, D>, kShift = kPhase<K, S, D>;
    for (int64_t r = begin; r < end; ++r) {
      const int64_t bottom = r % s.height + s.padding;
      const float* image = grad + r / s.height * s.out_height * s.out_width * s.channels;
      for (int64_t i = -((s.padding + kShift) % S); i < s.width; i += kSize) {
        const int64_t first = (i + s.padding - kShift) / S;
        const bool inside = i >= 0 && i + kSize <= s.width && first >= (K - 1) * D / S &&
                            first + (kSize - 1 + kShift) / S < s.out_width;
        for (int64_t c = 0; c < s.channels; c += kLanes) {
          const Row row = {nullptr, first, s.out_width, s.channels, s.channels - c};
          const bool whole = row.left >= kLanes;
          const auto strip = inside && whole ? &InputStrip<K, S, D, true, true>
                             : inside        ? &InputStrip<K, S, D, true, false>
                             : whole         ? &InputStrip<K, S, D, false, true>
                                             : &InputStrip<K, S, D, false, false>;
          strip(s, image + c, taps + c, tap_stride, bottom, row, -i, s.width - i,
                grad_input + (r * s.width + i) * s.channels + c);
        }
      }
    }
  }
};

// How many of the kernel's rows are summed at once: as many as there are registers.
template <int K>
constexpr int kTogether = kLanes == 16 || K == 3 ? K : 2;

// One strip for every kernel row; rows[k] is null where that lies in the padding.
template <int K, int S, int D, int kOutputs, bool kInside, bool kWhole>
inline void WeightStrip(const float* const* rows, Row row, const float* grad, F* sum) {
  F grad_y[kOutputs];
#pragma GCC unroll 8
  for (int t = 0; t < kOutputs; ++t) {
    grad_y[t] = LoadChannels<kWhole>(grad + t * row.channels, row.left);
  }
#pragma GCC unroll 8
  for (int k = 0; k < kTogether<K>; ++k) {
    if (rows[k] == nullptr) continue;
    row.data = rows[k];
    AddToWeights<K, S, D, kOutputs, kInside, kWhole>(row, grad_y, sum + k * K);
  }
}

// sum[kTogether * K] for the kernel's rows from `top` on and the output's rows [begin, end).
template <int K, int S, int D, bool kWhole>
inline void WeightRows(const DepthwiseConv2dShape& s, const float* grad, const float* input,
                       int64_t left, int top, int64_t begin, int64_t end, F* sum) {
  constexpr int kReach = (kGradStrip - 1) * S + (K - 1) * D;
  for (int k = 0; k < kTogether<K> * K; ++k) sum[k] = Broadcast(0.0f);
  for (int64_t r = begin; r < end; ++r) {
    const float* image = input + r / s.out_height * s.height * s.width * s.channels;
    const float* row_grad = grad + r * s.out_width * s.channels;
    const float* rows[kTogether<K>];
    for (int k = 0; k < kTogether<K>; ++k) {
      const int64_t i = r % s.out_height * S + (top + k) * D - s.padding;
      rows[k] = top + k >= K || Outside(i, s.height) ? nullptr : image + i * s.width * s.channels;
    }
    int64_t o = 0;
    for (; o + kGradStrip <= s.out_width; o += kGradStrip) {
      const Row row = {nullptr, o * S - s.padding, s.width, s.channels, left};
      const float* g = row_grad + o * s.channels;
      if (row.first >= 0 && row.first + kReach < s.width) {
        WeightStrip<K, S, D, kGradStrip, true, kWhole>(rows, row, g, sum);
      } else {
        WeightStrip<K, S, D, kGradStrip, false, kWhole>(rows, row, g, sum);
      }
    }
    for (; o < s.out_width; ++o) {
      const Row row = {nullptr, o * S - s.padding, s.width, s.channels, left};
      WeightStrip<K, S, D, 1, false, kWhole>(rows, row, row_grad + o * s.channels, sum);
    }
  }
}

struct WeightSums {
  // Adds the output's rows [begin, end) to total [kernel * kernel, tap_stride].
  template <int K, int S, int D>
  static void Run(const DepthwiseConv2dShape& s, const float* grad, const float* input,
                  int64_t tap_stride, int64_t begin, int64_t end, double* total) {
    const int64_t step = s.out_width < kPartial ? kPartial / s.out_width : 1;
    for (int64_t first = begin; first < end; first += step) {
      const int64_t last = first + step < end ? first + step : end;
      for (int64_t c = 0; c < s.channels; c += kLanes) {
        const int64_t left = s.channels - c;
        for (int top = 0; top < K; top += kTogether<K>) {
          F sum[kTogether<K> * K];
          left >= kLanes
              ? WeightRows<K, S, D, true>(s, grad + c, input + c, left, top, first, last, sum)
              : WeightRows<K, S, D, false>(s, grad + c, input + c, left, top, first, last, sum);
          for (int k = 0; k < kTogether<K> * K && top * K + k < K * K; ++k) {
            double* to = total + (top * K + k) * tap_stride + c;
            Store64(to, Load64(to) + WidenLow(sum[k]));
            Store64(to + kLanes / 2, Load64(to + kLanes / 2) + WidenHigh(sum[k]));
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
