// Rows of 3x3 pooling, forth and back. Included by for_each_isa.h inside bdp_ext::<isa>; no include
// guard.
//
// A vector is kLanes channels of a pixel. A row is walked pixel by pixel, and what three windows
// have in common stays in registers: forth, the sums and maxima of columns; back, a pixel's
// gradient until its last window has passed. kWhole: all lanes are channels.

// What the rows have in common.
struct PoolLine {
  int64_t width, windows;  // W and W'
  int64_t channels;        // floats from pixel to pixel
  int64_t left;            // channels of this vector and the later ones
};

template <bool kWhole>
inline F LoadPixel(const PoolLine& line, const float* row, int64_t x) {
  const float* p = row + x * line.channels;
  return kWhole ? Load(p) : LoadFirst(p, line.left, 0.0f);
}
template <bool kWhole>
inline void StorePixel(const PoolLine& line, float* row, int64_t x, F pixel) {
  float* p = row + x * line.channels;
  kWhole ? Store(p, pixel) : StoreFirst(p, line.left, pixel);
}

// One over the rows, or columns, of window o that lie in an image of this size.
template <int S>
inline float InverseCount(int64_t o, int64_t size) {
  constexpr float kInverse[] = {1.0f / 3, 1.0f / 2, 1.0f};
  return kInverse[(o == 0) + (o * S + 1 >= size)];
}

// The larger one; NaN if there is one.
inline F MaxOrNan(F a, F b) { return Select(IsNan(a), a, Max(a, b)); }

// A column of a window.
struct PoolColumn {
  F sum, largest;
};
inline PoolColumn NoColumn() { return {Broadcast(0.0f), Broadcast(-kInfinity)}; }

// rows: the one above, the middle one, the one below; null where there is none.
template <bool kAverage, bool kMaximum, bool kWhole>
inline PoolColumn ColumnOf(const PoolLine& line, const float* const* rows, int64_t x) {
  const F middle = LoadPixel<kWhole>(line, rows[1], x);
  PoolColumn column = {middle, middle};
  for (int i = 0; i < 3; i += 2) {
    if (rows[i] == nullptr) continue;
    const F pixel = LoadPixel<kWhole>(line, rows[i], x);
    if (kAverage) column.sum = column.sum + pixel;
    if (kMaximum) column.largest = MaxOrNan(pixel, column.largest);
  }
  return column;
}

// A row of windows. scale: one over how many of `rows` there are.
template <int S, bool kAverage, bool kMaximum, bool kWhole>
inline void PoolRow(const PoolLine& line, const float* const* rows, float scale, float* average,
                    float* maximum) {
  PoolColumn before = NoColumn(), here = before, after = before;
  if (S == 1) here = ColumnOf<kAverage, kMaximum, kWhole>(line, rows, 0);
  for (int64_t o = 0; o < line.windows; ++o) {
    const int64_t x = o * S;
    if (S == 2) here = ColumnOf<kAverage, kMaximum, kWhole>(line, rows, x);
    after =
        x + 1 < line.width ? ColumnOf<kAverage, kMaximum, kWhole>(line, rows, x + 1) : NoColumn();
    if (kAverage) {
      const F factor = Broadcast(scale * InverseCount<S>(o, line.width));
      StorePixel<kWhole>(line, average, o, (before.sum + here.sum + after.sum) * factor);
    }
    if (kMaximum) {
      const F largest = MaxOrNan(MaxOrNan(before.largest, here.largest), after.largest);
      StorePixel<kWhole>(line, maximum, o, largest);
    }
    before = S == 1 ? here : after;
    here = after;
  }
}

// The gradient of a maximum goes to the first of the largest pixels of its window, row by row, or
// to its last NaN. It finds the way back in two steps: the largest of each row's three pixels, then
// of the three rows. A pixel outside never wins, not even where all others are -inf.

// Of each window's three pixels in a row the largest one, and its place: 0, 1 or 2.
template <int S, bool kWhole>
inline void LargestOfRow(const PoolLine& line, const float* row, float* largest, float* place) {
  F before = Broadcast(0.0f), here = before, after = before;
  if (S == 1) here = LoadPixel<kWhole>(line, row, 0);
  for (int64_t o = 0; o < line.windows; ++o, largest += kLanes, place += kLanes) {
    const int64_t x = o * S;
    if (S == 2) here = LoadPixel<kWhole>(line, row, x);
    F best = here, at = Broadcast(1.0f);
    if (o > 0) {
      const M second = AboveOrNan(here, before);
      best = Select(second, here, before);
      at = Select(second, at, Broadcast(0.0f));
    }
    if (x + 1 < line.width) {
      after = LoadPixel<kWhole>(line, row, x + 1);
      const M third = AboveOrNan(after, best);
      best = Select(third, after, best);
      at = Select(third, Broadcast(2.0f), at);
    }
    Store(largest, best);
    Store(place, at);
    before = S == 1 ? here : after;
    here = after;
  }
}

// Gives a row of windows' gradients to those of three rows that have the largest. largest[i] is
// null where there is no row. The last row has got nothing yet, nor has the middle one if the
// stride is 2 or kFirst.
template <int S, bool kFirst, bool kWhole>
inline void GradientToRows(const PoolLine& line, const float* const* largest, const float* grad,
                           float* const* to) {
  const F none = Broadcast(0.0f);
  for (int64_t o = 0, k = 0; o < line.windows; ++o, k += kLanes) {
    F g = LoadPixel<kWhole>(line, grad, o), best = Load(largest[1] + k), above = none;
    M middle;
    if (!kFirst) {
      above = Load(largest[0] + k);
      middle = AboveOrNan(best, above);
      best = Select(middle, best, above);
    }
    if (largest[2] != nullptr) {
      const M last = AboveOrNan(Load(largest[2] + k), best);
      Store(to[2] + k, Select(last, g, none));
      g = Select(last, none, g);
    }
    if (!kFirst) {
      Store(to[0] + k, Load(to[0] + k) + Select(middle, none, g));
      g = Select(middle, g, none);
    }
    Store(to[1] + k, S == 2 || kFirst ? g : g + Load(to[1] + k));
  }
}

// The gradients of the averages that reach a row, by column of windows. A row of windows is null
// where there is none; scale: one over how many of its rows lie inside.
struct AverageGradient {
  const float* grad[3];
  float scale[3];
};

// A row's gradients to its pixels: those of the averages, of which each gets its share, and those
// of the maxima, which belong to one of three.
template <int S, bool kAverage, bool kMaximum, bool kWhole>
inline void GradientToPixels(const PoolLine& line, const AverageGradient& average,
                             const float* maximum, const float* place, float* grad) {
  const F none = Broadcast(0.0f);
  F left = none, right = none;  // what the pixels next to a window's left and middle one have got
  for (int64_t o = 0; o < line.windows; ++o, maximum += kLanes, place += kLanes) {
    F part[3] = {none, none, none};
    if (kAverage) {
      F sum = none;
      for (int i = 0; i < 3; ++i) {
        if (average.grad[i] == nullptr) continue;
        sum = Fma(LoadPixel<kWhole>(line, average.grad[i], o), Broadcast(average.scale[i]), sum);
      }
      sum = sum * Broadcast(InverseCount<S>(o, line.width));
      part[0] = part[1] = part[2] = sum;
    }
    if (kMaximum) {
      const F at = Load(place), whole = Load(maximum);
      for (int i = 0; i < 3; ++i) {
        part[i] = part[i] + SelectEqual(at, Broadcast(static_cast<float>(i)), whole, none);
      }
    }
    if (o > 0) StorePixel<kWhole>(line, grad, o * S - 1, left + part[0]);
    if (S == 1) {
      left = right + part[1];
      right = part[2];
    } else {
      StorePixel<kWhole>(line, grad, o * S, part[1]);
      left = part[2];
    }
  }
  const int64_t last = line.windows * S - 1;
  if (last < line.width) StorePixel<kWhole>(line, grad, last, left);
}
