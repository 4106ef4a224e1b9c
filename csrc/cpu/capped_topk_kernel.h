// Loops of capped_topk over a stretch of samples. Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.
// All but the selection and the counting are loops that the compiler vectorises.

// Order: the lower key is taken first. -0 becomes +0; flip is 0 for the smallest first, -1 for the largest; NaN is last.
// No key is INT32_MIN.
inline int32_t KeyOf(float score, int32_t flip) {
  const float positive_zero = score + 0.0f;
  int32_t bits;
  std::memcpy(&bits, &positive_zero, sizeof(bits));
  const int32_t key = (bits ^ ((bits >> 31) & INT32_MAX)) ^ flip;
  return score == score ? key : INT32_MAX;
}

inline void KeysOf(const float* score, int64_t n, int32_t flip, int32_t* key, int32_t* lowest,
                   int32_t* highest) {
  int32_t low = INT32_MAX, high = INT32_MIN;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t x = KeyOf(score[i], flip);
    key[i] = x;
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  *lowest = low;
  *highest = high;
}

inline int64_t CountUpTo(const int32_t* key, int64_t n, int32_t bound) {
  int64_t count = 0;
  for (int64_t begin = 0; begin < n; begin += 1 << 20) {  // 32-bit counts vectorise better
    const int64_t end = begin + (1 << 20) < n ? begin + (1 << 20) : n;
    int32_t part = 0;
    for (int64_t i = begin; i < end; ++i) part += key[i] <= bound;
    count += part;
  }
  return count;
}

// Which keys are the `take` lowest of n, 0 < take < n: those up to `bound` and the first `ties` that equal bound + 1.
// A search between the lowest and the highest key, by interpolation and by halves, on ever fewer keys; `key` is used up.
inline Limit SelectLimit(int32_t* key, int64_t n, int32_t lowest, int32_t highest, int64_t take) {
  int64_t low = static_cast<int64_t>(lowest) - 1, high = highest;  // rank(low) < take <= rank(high)
  int64_t rank_low = 0, rank_high = n;
  int64_t dropped = 0;  // keys up to low that are no longer in `key`
  for (int round = 0; high - low > 1; ++round) {
    const int64_t span = high - low;
    int64_t step = span / 2;
    if (round % 3 != 2) {
      step = static_cast<int64_t>(static_cast<double>(span) * static_cast<double>(take - rank_low) /
                                  static_cast<double>(rank_high - rank_low));
      step = step < 1 ? 1 : step > span - 1 ? span - 1 : step;
    }
    const int64_t pivot = low + step;
    const int64_t rank = dropped + CountUpTo(key, n, static_cast<int32_t>(pivot));
    if (rank == take) return {static_cast<int32_t>(pivot), 0};
    if (rank < take) {
      low = pivot;
      rank_low = rank;
    } else {
      high = pivot;
      rank_high = rank;
    }
    if ((rank_high - rank_low) * 2 < n) {
      int64_t kept = 0;
      for (int64_t i = 0; i < n; ++i) {
        const int32_t x = key[i];
        key[kept] = x;
        kept += (x > low) & (x <= high);
      }
      n = kept;
      dropped = rank_low;
    }
  }
  return {static_cast<int32_t>(low), take - rank_low};
}

// Of the keys up to `bound`: how often each upper half occurs.
inline void CountUpper(const float* score, int64_t n, int32_t flip, int32_t bound, int64_t* count) {
  for (int64_t i = 0; i < n; ++i) {
    const int32_t key = KeyOf(score[i], flip);
    count[(key >> 16) + 32768] += key <= bound;
  }
}

// Of the keys up to `bound` with this upper half: how often each lower half occurs.
inline void CountLower(const float* score, int64_t n, int32_t flip, int32_t bound, int32_t upper,
                       int64_t* count) {
  constexpr int64_t kStep = 64;
  for (int64_t begin = 0; begin < n; begin += kStep) {
    const int64_t end = begin + kStep < n ? begin + kStep : n;
    int32_t found = 0;
    for (int64_t i = begin; i < end; ++i) found += (KeyOf(score[i], flip) >> 16) == upper;
    if (found == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      const int32_t key = KeyOf(score[i], flip);
      if (key >> 16 == upper) count[key & 0xffff] += key <= bound;
    }
  }
}

// Takes what is up to `bound`; says whether any key equals `tie`.
inline bool Mark(const float* score, int64_t n, int32_t flip, int32_t bound, int32_t tie,
                 bool* mask) {
  int32_t ties = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t key = KeyOf(score[i], flip);
    mask[i] = key <= bound;
    ties |= key == tie;
  }
  return ties != 0;
}

// The same where every sample has its own class's bound; class `classes` stands for all labels that are no class.
// Writes the positions of the ties and returns how many.
template <typename Label>
inline int64_t MarkByClass(const float* score, const Label* label, int64_t n, int64_t classes,
                           int32_t flip, const int32_t* bound, const int32_t* tie, bool* mask,
                           int32_t* ties) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t key = KeyOf(score[i], flip);
    const uint64_t c = ClassOf(label[i], classes);
    mask[i] = key <= bound[c];
    ties[count] = static_cast<int32_t>(i);
    count += key == tie[c];
  }
  return count;
}

// The first position after `begin` whose label is another one, or end.
template <typename Label>
inline int64_t NextChange(const Label* label, int64_t begin, int64_t end) {
  constexpr int64_t kStep = 64;
  const Label first = label[begin];
  int64_t i = begin + 1;
  for (; i + kStep <= end; i += kStep) {
    Label differ = 0;
    for (int64_t j = 0; j < kStep; ++j) differ |= label[i + j] ^ first;
    if (differ != 0) break;
  }
  while (i < end && label[i] == first) ++i;
  return i;
}
