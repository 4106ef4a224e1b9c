// Loops of capped_topk over a stretch of samples. Included by for_each_isa.h inside bdp_ext::<isa>;
// no include guard. All but the selection and the counting are loops that the compiler vectorises.

// Order: the lower key is taken first. A float's magnitude with its sign, as an integer, so -0 is
// +0; flip is 0 for the smallest first, -1 for the largest; NaN is last. No key is INT32_MIN.
// Written without a choice, for gcc would make a jump of it and vectorise nothing.
inline int32_t KeyOf(float score, int32_t flip) {
  int32_t bits;
  std::memcpy(&bits, &score, sizeof(bits));
  const int32_t sign = bits >> 31, magnitude = bits & INT32_MAX;
  const int32_t nan = (0x7f800000 - magnitude) >> 31;  // all ones for NaN
  const int32_t key = ((magnitude ^ sign) - sign) ^ flip;
  return (key & ~nan) | (nan & INT32_MAX);
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

// Which keys are the `take` lowest of n, 0 < take < n: those up to `bound` and the first `ties`
// that equal bound + 1. A search over the keys' values on ever fewer keys; `key` is used up.
// `guess` only makes it faster: of two classes of much the same scores, the second starts where the
// first ended.
inline Limit SelectLimit(int32_t* key, int64_t n, int32_t lowest, int32_t highest, int64_t take,
                         Guess* guess) {
  int64_t low = static_cast<int64_t>(lowest) - 1, high = highest;  // rank(low) < take <= rank(high)
  int64_t rank_low = 0, rank_high = n, dropped = 0;  // dropped: keys up to low that left `key`
  const double total = static_cast<double>(n);
  int64_t pivot = guess->pivot;
  for (int round = 0; high - low > 1; ++round) {
    const int64_t span = high - low;
    const double inside = static_cast<double>(rank_high - rank_low);
    if (round == 1 &&
        guess->spread >
            0) {  // from the first pivot, as far as the missing ranks took the last time
      const int64_t rank = low == pivot ? rank_low : rank_high;
      pivot += static_cast<int64_t>(static_cast<double>(take - rank) / total * guess->spread * 1.5);
    } else if (round % 3 == 2) {
      pivot = low + span / 2;
    } else if (round > 0) {
      pivot = low + static_cast<int64_t>(static_cast<double>(span) *
                                         static_cast<double>(take - rank_low) / inside);
    }
    pivot = pivot <= low ? low + 1 : pivot >= high ? high - 1 : pivot;
    const int64_t rank = dropped + CountUpTo(key, n, static_cast<int32_t>(pivot));
    if (rank == take) {
      low = pivot;
      rank_low = rank;
      break;
    }
    if (rank < take) {
      low = pivot;
      rank_low = rank;
    } else {
      high = pivot;
      rank_high = rank;
    }
    if ((rank_high - rank_low) * 4 < n && n > kLanes) {
      if (dropped == 0) {
        guess->spread =
            static_cast<double>(high - low) * total / static_cast<double>(rank_high - rank_low);
      }
      n = Filter(key, n, static_cast<int32_t>(low), static_cast<int32_t>(high), key);
      dropped = rank_low;
    }
  }
  guess->pivot = low;
  return {static_cast<int32_t>(low), take - rank_low};
}

// Of the keys up to `bound`: those in (low, high] to out, which has room for n; returns how many
// and adds to `below` how many are not above low.
inline int64_t FilterScores(const float* score, int64_t n, int32_t flip, int32_t bound, int32_t low,
                            int32_t high, int32_t* out, int64_t* below) {
  constexpr int64_t kStep = 512;
  int32_t key[kStep], lowest, highest;
  int64_t kept = 0;
  for (int64_t begin = 0; begin < n; begin += kStep) {
    const int64_t size = begin + kStep < n ? kStep : n - begin;
    KeysOf(score + begin, size, flip, key, &lowest, &highest);
    *below += CountUpTo(key, size, low < bound ? low : bound);
    kept += Filter(key, size, low, high < bound ? high : bound, out + kept);
  }
  return kept;
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

// The same where every sample has its own class's bound; class `classes` stands for all labels that
// are no class. Writes the positions of the ties and returns how many.
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
