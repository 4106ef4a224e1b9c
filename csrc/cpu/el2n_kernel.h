// EL2N of a group of rows (BDP Eq. 3). Included by for_each_isa.h inside bdp_ext::<isa>; no include
// guard.
//
//   With m the anchor (near the largest rival), s1 = sum exp(z_j - m) and s2 = sum exp(2 (z_j - m))
//   over the classes j != y, and t = exp(m - z_y):       s = sqrt(s1^2 + s2) * t / (s1 * t + 1)
//
// Any anchor gives the same s. The sums run in float32 with a partial sum every few terms in
// float64, the margin and the end of the formula in float64: at most 1e-6 relative at any margin.

constexpr int64_t kTransposedClasses =
    64;  // up to here a vector is one class of kLanes rows, above a piece of a row
constexpr int kGroup = 4;           // vectors, one accumulator each
constexpr int kBlock = 8 * kGroup;  // vectors between partial sums: 8 terms add at most 3e-7
constexpr float kSlack = 4.0f;  // how far a logit may exceed the anchor; z - m costs 1.2e-7 there
constexpr float kLowest = std::numeric_limits<float>::lowest();

// exp(x) for x <= 80, to 1 ulp; NaN stays NaN. Below -87 it stays at 1.6e-38: the largest term of a
// sum is near 1.
inline F Exp(F x) {
  x = Max(Broadcast(-87.0f), x);
  const F magic =
      Broadcast(12582912.0f + 127.0f);  // 1.5 * 2^23 rounds to an integer; 127 is float's bias
  const F t = Fma(x, Broadcast(1.44269504f), magic);
  const F f = Fma(t - magic, Broadcast(-0.693147181f), x);
  F q = Broadcast(1.3814598e-3f);
  q = Fma(q, f, Broadcast(8.3687157e-3f));
  q = Fma(q, f, Broadcast(4.1668388e-2f));
  q = Fma(q, f, Broadcast(1.6666521e-1f));
  q = Fma(q, f, Broadcast(0.49999993f));
  q = Fma(q, f, Broadcast(1.0f));
  q = Fma(q, f, Broadcast(1.0f));
  return q * PowerOfTwo(t);
}

// exp(x) for x <= 0, to 1e-11; NaN stays NaN. Below -700 it stays at 1e-304.
inline D Exp(D x) {
  x = Max(Broadcast64(-700.0), x);
  const D magic = Broadcast64(6755399441055744.0 + 1023.0);  // 1.5 * 2^52, and double's bias
  const D t = Fma(x, Broadcast64(1.4426950408889634), magic);
  const D f = Fma(t - magic, Broadcast64(-0.6931471805599453), x);
  D q = Broadcast64(2.4708269366680746e-05);
  q = Fma(q, f, Broadcast64(1.9908949957107467e-04));
  q = Fma(q, f, Broadcast64(1.3889197238856916e-03));
  q = Fma(q, f, Broadcast64(8.333281791074265e-03));
  q = Fma(q, f, Broadcast64(4.1666664403915685e-02));
  q = Fma(q, f, Broadcast64(1.6666666784501494e-01));
  q = Fma(q, f, Broadcast64(0.5));
  q = Fma(q, f, Broadcast64(1.0));
  q = Fma(q, f, Broadcast64(1.0));
  return q * PowerOfTwo(t);
}

// The formula. top is the anchor, or -inf where no rival is finite: such a row is certain of its
// class, s = 0. NaN where own is NaN or +inf, where a sum is NaN, and where nothing but -inf stands
// (m - z_y is NaN).
inline D Finish(D own, D top, D s1, D s2) {
  const D zero = Broadcast64(0.0), one = Broadcast64(1.0), lowest = Broadcast64(kLowest);
  const D anchor = SelectLess(top, lowest, own, top);
  s1 = SelectLess(top, lowest, zero, s1);
  s2 = SelectLess(top, lowest, zero, s2);
  const D margin = anchor - own;
  const D t = Exp(SelectLess(margin, zero, margin, zero - margin));
  const D length = Sqrt(Fma(s1, s1, s2));
  const D score = SelectLess(margin, zero, length * t, length) /
                  SelectLess(margin, zero, Fma(s1, t, one), s1 + t);
  return SelectLess(own, Broadcast64(kInfinity), score, Broadcast64(kNaN));
}

// kLanes rows side by side: column c holds class c of every row.
template <typename T>
inline F ScoreTransposed(const T* const* rows, const int64_t* target, int64_t classes) {
  alignas(64) float columns[kTransposedClasses * kLanes];
  alignas(64) float own_lanes[kLanes];
  for (int lane = 0; lane < kLanes; ++lane) {
    const T* z = rows[lane];
    for (int64_t c = 0; c < classes; ++c) columns[c * kLanes + lane] = ToFloat(z[c]);
    const int64_t y = target[lane];
    own_lanes[lane] = kNaN;
    if (y < 0 || y >= classes) continue;
    own_lanes[lane] = columns[y * kLanes + lane];
    columns[y * kLanes + lane] = -kInfinity;
  }
  F top = Broadcast(-kInfinity);
  for (int64_t c = 0; c < classes; ++c) top = Max(Load(columns + c * kLanes), top);
  const F anchor = Max(top, Broadcast(kLowest));
  D s1_low = Broadcast64(0.0), s1_high = s1_low, s2_low = s1_low, s2_high = s1_low;
  for (int64_t begin = 0; begin < classes; begin += kBlock) {
    const int64_t end = begin + kBlock < classes ? begin + kBlock : classes;
    F s1[kGroup], s2[kGroup];
    for (int i = 0; i < kGroup; ++i) s1[i] = s2[i] = Broadcast(0.0f);
    for (int64_t c = begin; c < end; c += kGroup) {
      for (int i = 0; i < kGroup && c + i < end; ++i) {
        const F e = Exp(Load(columns + (c + i) * kLanes) - anchor);
        s1[i] = s1[i] + e;
        s2[i] = Fma(e, e, s2[i]);
      }
    }
    const F part1 = (s1[0] + s1[1]) + (s1[2] + s1[3]);
    const F part2 = (s2[0] + s2[1]) + (s2[2] + s2[3]);
    s1_low = s1_low + WidenLow(part1);
    s1_high = s1_high + WidenHigh(part1);
    s2_low = s2_low + WidenLow(part2);
    s2_high = s2_high + WidenHigh(part2);
  }
  const F own = Load(own_lanes);
  return Narrow(Finish(WidenLow(own), WidenLow(top), s1_low, s2_low),
                Finish(WidenHigh(own), WidenHigh(top), s1_high, s2_high));
}

struct Moments {
  double own, top, s1, s2;
};

// kGroup vectors of a row from class `first`, with -inf in place of class y and past the end.
template <typename T>
inline void LoadRivals(const T* z, int64_t classes, int64_t first, int64_t y, F* v) {
  for (int i = 0; i < kGroup; ++i) {
    const int64_t at = first + i * kLanes;
    const int64_t left = classes - at;
    v[i] = left >= kLanes ? Load(z + at)
           : left > 0     ? LoadFirst(z + at, left, -kInfinity)
                          : Broadcast(-kInfinity);
    if (y >= at && y < at + kLanes) v[i] = SetLane(v[i], static_cast<int>(y - at), -kInfinity);
  }
}

// One row in one pass. The anchor is the largest rival of the first vectors; a block that holds a
// logit more than kSlack above it is done again with a new anchor, and what was summed before is
// rescaled: rare.
template <typename T>
inline Moments RowMoments(const T* z, int64_t classes, int64_t y) {
  Moments row = {kNaN, kNaN, kNaN, kNaN};
  if (y < 0 || y >= classes) return row;
  row.own = ToFloat(z[y]);
  constexpr int64_t kStep = kGroup * kLanes;
  const int64_t special = y / kStep * kStep;      // the group that holds class y
  const int64_t whole = classes / kStep * kStep;  // what follows is no whole group
  F v[kGroup];
  LoadRivals(z, classes, 0, y, v);
  float anchor = MaxLane(Max(Max(Max(v[0], v[1]), Max(v[2], v[3])), Broadcast(kLowest)));
  F top = Broadcast(-kInfinity);
  D total1 = Broadcast64(0.0), total2 = Broadcast64(0.0);
  for (int64_t begin = 0; begin < classes; begin += kBlock * kLanes) {
    const int64_t end = begin + kBlock * kLanes < classes ? begin + kBlock * kLanes : classes;
    for (;;) {
      const F m = Broadcast(anchor);
      F s1[kGroup], s2[kGroup];
      for (int i = 0; i < kGroup; ++i) s1[i] = s2[i] = Broadcast(0.0f);
      for (int64_t first = begin; first < end; first += kStep) {
        if (first == special || first == whole) {
          LoadRivals(z, classes, first, y, v);
        } else {
          for (int i = 0; i < kGroup; ++i) v[i] = Load(z + first + i * kLanes);
        }
        for (int i = 0; i < kGroup; ++i) {
          top = Max(v[i], top);
          const F e = Exp(v[i] - m);
          s1[i] = s1[i] + e;
          s2[i] = Fma(e, e, s2[i]);
        }
      }
      const float highest = MaxLane(top);
      if (!(highest > anchor + kSlack)) {
        const F part1 = (s1[0] + s1[1]) + (s1[2] + s1[3]);
        const F part2 = (s2[0] + s2[1]) + (s2[2] + s2[3]);
        total1 = total1 + (WidenLow(part1) + WidenHigh(part1));
        total2 = total2 + (WidenLow(part2) + WidenHigh(part2));
        break;
      }
      if (highest == kInfinity) return row;
      const double scale = std::exp(static_cast<double>(anchor) - highest);
      total1 = total1 * Broadcast64(scale);
      total2 = total2 * Broadcast64(scale * scale);
      anchor = highest;
    }
  }
  row.top = MaxLane(top) < kLowest ? -kInfinity : anchor;
  row.s1 = Sum(total1);
  row.s2 = Sum(total2);
  return row;
}

// Scores of n <= kLanes rows; rows[n...] and target[n...] must be readable, too (repeat the first).
template <typename T>
inline void ScoreGroup(const T* const* rows, const int64_t* target, int n, int64_t classes,
                       float* score) {
  if (classes <= kTransposedClasses) {
    Store(score, ScoreTransposed(rows, target, classes));
    return;
  }
  alignas(64) double own[kLanes], top[kLanes], s1[kLanes], s2[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    const Moments row = i < n ? RowMoments(rows[i], classes, target[i]) : Moments{0, 0, 1, 1};
    own[i] = row.own;
    top[i] = row.top;
    s1[i] = row.s1;
    s2[i] = row.s2;
  }
  constexpr int kHalf = kLanes / 2;
  Store(score, Narrow(Finish(Load64(own), Load64(top), Load64(s1), Load64(s2)),
                      Finish(Load64(own + kHalf), Load64(top + kHalf), Load64(s1 + kHalf),
                             Load64(s2 + kHalf))));
}
