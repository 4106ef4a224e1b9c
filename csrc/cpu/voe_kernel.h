// VoE of kLanes samples (BDP Eq. 4). Included by for_each_isa.h inside bdp_ext::<isa>; no include
// guard.
//
//   VoE = (1/k) sum_t (s_t - mean)^2 over the k known scores of a window; NaN where k < 2
//
// Shifted by the first known score in slot order and taken in two passes: a constant window gives
// exactly 0. voe and update_voe_ both come here, so a window gives the same bits in both.

constexpr int64_t kVoePartial = 16;  // terms of a partial sum: a window of hundreds loses nothing

template <bool kWhole>
inline F LoadScores(const float* p, int64_t n) {
  return kWhole ? Load(p) : LoadFirst(p, n, kNaN);
}

// Columns with unknown scores among them. Of a vector that is not whole, the first n columns are
// read.
template <bool kWhole>
inline F VoeWithUnknown(const float* window, int64_t length, int64_t stride, int64_t n) {
  const F zero = Broadcast(0.0f), one = Broadcast(1.0f);
  F shift = Broadcast(kNaN), sum = zero, count = zero;
  for (int64_t begin = 0; begin < length; begin += kVoePartial) {
    const int64_t end = begin + kVoePartial < length ? begin + kVoePartial : length;
    F part = zero;
    for (int64_t t = begin; t < end; ++t) {
      const F x = LoadScores<kWhole>(window + t * stride, n);
      const M unknown = IsNan(x);
      shift = Select(IsNan(shift), x, shift);
      part = part + Select(unknown, zero, x - shift);
      count = count + Select(unknown, zero, one);
    }
    sum = sum + part;
  }
  const F mean = sum / count;
  F squares = zero;
  for (int64_t begin = 0; begin < length; begin += kVoePartial) {
    const int64_t end = begin + kVoePartial < length ? begin + kVoePartial : length;
    F part = zero;
    for (int64_t t = begin; t < end; ++t) {
      const F x = LoadScores<kWhole>(window + t * stride, n);
      const F deviation = Select(IsNan(x), zero, (x - shift) - mean);
      part = Fma(deviation, deviation, part);
    }
    squares = squares + part;
  }
  return SelectLess(one, count, squares / count, Broadcast(kNaN));
}

// kVectors times kLanes whole columns; row t of them begins at window + t * stride. As long as
// every score is known nothing needs looking at: an unknown one makes the sum NaN. Both ways add
// the same numbers in the same order.
template <int kVectors>
inline void VoeOf(const float* window, int64_t length, int64_t stride, F* voe) {
  const F zero = Broadcast(0.0f), count = Broadcast(static_cast<float>(length));
  F shift[kVectors], mean[kVectors], part[kVectors];
  for (int v = 0; v < kVectors; ++v) voe[v] = Broadcast(kNaN);
  if (length < 2) return;
  for (int v = 0; v < kVectors; ++v) {
    shift[v] = Load(window + v * kLanes);
    mean[v] = voe[v] = zero;
  }
  for (int64_t begin = 0; begin < length; begin += kVoePartial) {
    const int64_t end = begin + kVoePartial < length ? begin + kVoePartial : length;
    for (int v = 0; v < kVectors; ++v) part[v] = zero;
    for (int64_t t = begin; t < end; ++t) {
      const float* x = window + t * stride;
      for (int v = 0; v < kVectors; ++v) part[v] = part[v] + (Load(x + v * kLanes) - shift[v]);
    }
    for (int v = 0; v < kVectors; ++v) mean[v] = mean[v] + part[v];
  }
  F any = zero;
  for (int v = 0; v < kVectors; ++v) any = any + mean[v];
  if (Any(IsNan(any))) {
    for (int v = 0; v < kVectors; ++v) {
      voe[v] = VoeWithUnknown<true>(window + v * kLanes, length, stride, kLanes);
    }
    return;
  }
  for (int v = 0; v < kVectors; ++v) mean[v] = mean[v] / count;
  for (int64_t begin = 0; begin < length; begin += kVoePartial) {
    const int64_t end = begin + kVoePartial < length ? begin + kVoePartial : length;
    for (int v = 0; v < kVectors; ++v) part[v] = zero;
    for (int64_t t = begin; t < end; ++t) {
      const float* x = window + t * stride;
      for (int v = 0; v < kVectors; ++v) {
        const F deviation = (Load(x + v * kLanes) - shift[v]) - mean[v];
        part[v] = Fma(deviation, deviation, part[v]);
      }
    }
    for (int v = 0; v < kVectors; ++v) voe[v] = voe[v] + part[v];
  }
  for (int v = 0; v < kVectors; ++v) voe[v] = voe[v] / count;
}
