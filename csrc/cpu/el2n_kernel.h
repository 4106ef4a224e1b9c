// EL2N of a group of rows (BDP Eq. 3). Included by for_each_isa.h inside bdp_ext::<isa>; no include
// guard.
//
//   With m the anchor (near the largest rival), s1 = sum exp(z_j - m) and s2 = sum exp(2 (z_j - m))
//   over the classes j != y, and t = exp(m - z_y):       s = sqrt(s1^2 + s2) * t / (s1 * t + 1)
//
// Any anchor gives the same s. The sums run in float32 with a partial sum every few terms in
// float64, the margin and the end of the formula in float64: at most 1e-6 relative at any margin.

// Up to here a vector is one class of kLanes rows, above a piece of a row.
constexpr int64_t kTransposedClasses = 192;
constexpr int kBlock = 8;  // groups between partial sums: 8 terms an accumulator, at most 3e-7
constexpr int64_t kStep = kGroup * kLanes;  // classes of a group of vectors
constexpr float kSlack = 4.0f;  // how far a logit may exceed the anchor; z - m costs 1.2e-7 there
constexpr float kTooLarge = 54.0f;  // exp(kSlack): a sum below has no term above
constexpr float kLowest = std::numeric_limits<float>::lowest();

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
// class, s = 0, unless a rival is NaN, which a sum tells. NaN where own is NaN or +inf, where a sum
// is NaN, and where nothing but -inf stands (m - z_y is NaN).
inline D Finish(D own, D top, D s1, D s2) {
  const D zero = Broadcast64(0.0), one = Broadcast64(1.0), lowest = Broadcast64(kLowest);
  const D anchor = SelectLess(top, lowest, own, top);
  s1 = SelectLess(top, lowest, s1 * zero, s1);
  s2 = SelectLess(top, lowest, s2 * zero, s2);
  const D margin = anchor - own;
  const D t = Exp(SelectLess(margin, zero, margin, zero - margin));
  const D length = Sqrt(Fma(s1, s1, s2));
  const D score = SelectLess(margin, zero, length * t, length) /
                  SelectLess(margin, zero, Fma(s1, t, one), s1 + t);
  return SelectLess(own, Broadcast64(kInfinity), score, Broadcast64(kNaN));
}

// The sum of kGroup accumulators.
inline F Total(const F* part) {
  F total = part[0];
  for (int i = 1; i < kGroup; ++i) total = total + part[i];
  return total;
}

// kLanes rows side by side: column c holds class c of every row.
template <typename T>
inline F ScoreTransposed(const T* const* rows, const int64_t* target, int64_t classes) {
  alignas(64) float columns[kTransposedClasses * kLanes];
  alignas(64) float own_lanes[kLanes];
  for (int64_t first = 0; first < classes; first += kLanes) {
    const int64_t left = classes - first;
    F tile[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      tile[i] =
          left >= kLanes ? Load(rows[i] + first) : LoadFirst(rows[i] + first, left, -kInfinity);
    }
    Transpose(tile);
    for (int i = 0; i < kLanes; ++i) Store(columns + (first + i) * kLanes, tile[i]);
  }
  for (int lane = 0; lane < kLanes; ++lane) {
    const int64_t y = target[lane];
    own_lanes[lane] = kNaN;
    if (y < 0 || y >= classes) continue;
    own_lanes[lane] = ToFloat(rows[lane][y]);
    columns[y * kLanes + lane] = -kInfinity;
  }
  F top = Broadcast(-kInfinity);
  for (int64_t c = 0; c < classes; ++c) top = Max(Load(columns + c * kLanes), top);
  const F anchor = Max(top, Broadcast(kLowest));
  D s1_low = Broadcast64(0.0), s1_high = s1_low, s2_low = s1_low, s2_high = s1_low;
  for (int64_t begin = 0; begin < classes; begin += kBlock * kGroup) {
    const int64_t end = begin + kBlock * kGroup < classes ? begin + kBlock * kGroup : classes;
    F s1[kGroup], s2[kGroup];
    for (int i = 0; i < kGroup; ++i) s1[i] = s2[i] = Broadcast(0.0f);
    for (int64_t c = begin; c < end; c += kGroup) {
      F e[kGroup];
      for (int i = 0; i < kGroup; ++i) e[i] = Load(columns + (c + i) * kLanes) - anchor;
      Exp<kGroup>(e);
      for (int i = 0; i < kGroup; ++i) {
        s1[i] = s1[i] + e[i];
        s2[i] = Fma(e[i], e[i], s2[i]);
      }
    }
    const F part1 = Total(s1);
    const F part2 = Total(s2);
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
    v[i] = Without(v[i], y - at);
  }
}

// The largest rival from class `begin` to `end`; NaN is none.
template <typename T>
inline float LargestRival(const T* z, int64_t classes, int64_t begin, int64_t end, int64_t y) {
  F largest = Broadcast(kLowest), v[kGroup];
  for (int64_t first = begin; first < end; first += kStep) {
    LoadRivals(z, classes, first, y, v);
    for (int i = 0; i < kGroup; ++i) largest = Max(v[i], largest);
  }
  return MaxLane(largest);
}

// exp(v - m) and its square to the sums.
inline void AddGroup(F* v, F m, F* s1, F* s2) {
  for (int i = 0; i < kGroup; ++i) v[i] = v[i] - m;
  Exp<kGroup>(v);
  for (int i = 0; i < kGroup; ++i) {
    s1[i] = s1[i] + v[i];
    s2[i] = Fma(v[i], v[i], s2[i]);
  }
}

// One row in one pass, from an anchor that is the largest rival of its first group. Partial sums
// tell when a logit lies far above it (nothing else makes them so large but NaN): that block is
// done again with a new anchor, and what was summed before is rescaled. Rare.
template <typename T>
inline Moments RowMoments(const T* z, int64_t classes, int64_t y, float anchor) {
  const int64_t special = y / kStep * kStep;      // the group that holds class y
  const int64_t whole = classes / kStep * kStep;  // what follows is no whole group
  D total1 = Broadcast64(0.0), total2 = Broadcast64(0.0);
  for (int64_t begin = 0; begin < classes;) {
    const int64_t end = begin + kBlock * kStep < classes ? begin + kBlock * kStep : classes;
    const F m = Broadcast(anchor);
    F s1[kGroup], s2[kGroup], v[kGroup];
    for (int i = 0; i < kGroup; ++i) s1[i] = s2[i] = Broadcast(0.0f);
    for (int64_t first = begin; first < end; first += kStep) {
      const int64_t stop = special >= first && special < end ? special : whole < end ? whole : end;
      for (; first < stop; first += kStep) {
        for (int i = 0; i < kGroup; ++i) v[i] = Load(z + first + i * kLanes);
        AddGroup(v, m, s1, s2);
      }
      if (first >= end) break;
      LoadRivals(z, classes, first, y, v);
      AddGroup(v, m, s1, s2);
    }
    const F part1 = Total(s1), part2 = Total(s2);
    if (!AllBelow(Max(Broadcast(0.0f) - part1, part1), Broadcast(kTooLarge))) {
      const float largest = LargestRival(z, classes, begin, end, y);
      if (largest > anchor + kSlack) {
        const double scale = std::exp(static_cast<double>(anchor) - largest);
        total1 = total1 * Broadcast64(scale);
        total2 = total2 * Broadcast64(scale * scale);
        anchor = largest;
        continue;
      }
    }
    total1 = total1 + (WidenLow(part1) + WidenHigh(part1));
    total2 = total2 + (WidenLow(part2) + WidenHigh(part2));
    begin = end;
  }
  const double sum1 = Sum(total1), sum2 = Sum(total2);
  // A finite anchor is the exponent of one of the terms, which is 1.
  return {ToFloat(z[y]), sum1 < 0.5 ? -kInfinity : anchor, sum1, sum2};
}

struct NothingElse {
  void operator()(int) const {}
};

// Scores of n <= kLanes rows; rows[n...] and target[n...] must be readable, too (repeat the first).
// meanwhile(i) is called for each of them along the way, to start what needs no computing.
template <typename T, typename Meanwhile>
inline void ScoreGroup(const T* const* rows, const int64_t* target, int n, int64_t classes,
                       const Meanwhile& meanwhile, float* score) {
  if (classes <= kTransposedClasses) {
    for (int i = 0; i < n; ++i) meanwhile(i);
    Store(score, ScoreTransposed(rows, target, classes));
    return;
  }
  alignas(64) double own[kLanes], top[kLanes], s1[kLanes], s2[kLanes];
  float anchor[kLanes];  // all of them first: one after the other each row would wait for its own
  for (int i = 0; i < n; ++i) {
    const bool valid = target[i] >= 0 && target[i] < classes;
    anchor[i] = valid ? LargestRival(rows[i], classes, 0, kStep, target[i]) : kNaN;
  }
  for (int i = 0; i < kLanes; ++i) {
    if (i < n) meanwhile(i);
    const bool valid = i < n && target[i] >= 0 && target[i] < classes;
    const Moments row = valid ? RowMoments(rows[i], classes, target[i], anchor[i])
                              : Moments{kNaN, kNaN, kNaN, kNaN};
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
