// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.

#include "cpu/el2n_kernel.h"

template <typename T>
inline void El2nRowsOf(const Logits& logits, const int64_t* target, int64_t begin, int64_t end,
                       float* score) {
  const T* data = static_cast<const T*>(logits.data);
  const T* rows[kLanes];
  int64_t targets[kLanes];
  alignas(64) float scores[kLanes];
  for (int64_t first = begin; first < end; first += kLanes) {
    const int n = static_cast<int>(end - first < kLanes ? end - first : kLanes);
    for (int i = 0; i < kLanes; ++i) {
      const int64_t row = first + (i < n ? i : 0);
      rows[i] = data + row * logits.row_stride;
      targets[i] = target[row];
    }
    ScoreGroup(rows, targets, n, logits.classes, NothingElse(), scores);
    std::memcpy(score + first, scores, n * sizeof(float));
  }
}

// score[begin, end)
inline void El2nRows(const Logits& logits, const int64_t* target, int64_t begin, int64_t end,
                     float* score) {
  switch (logits.type) {
    case LogitType::kFloat32:
      return El2nRowsOf<float>(logits, target, begin, end, score);
    case LogitType::kFloat16:
      return El2nRowsOf<Half>(logits, target, begin, end, score);
    case LogitType::kBFloat16:
      return El2nRowsOf<BFloat16>(logits, target, begin, end, score);
  }
}
