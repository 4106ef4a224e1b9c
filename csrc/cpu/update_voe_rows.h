// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.

#include "cpu/el2n_kernel.h"
#include "cpu/voe_kernel.h"

// Which part a sample belongs to. Samples of one cache line go together.
inline int64_t PartOf(int64_t sample, int64_t parts) {
  const uint64_t mixed = static_cast<uint64_t>(sample >> 4) * 0x9E3779B97F4A7C15u;
  return static_cast<int64_t>((mixed >> 32) * static_cast<uint64_t>(parts) >> 32);
}

// The n samples' new scores into the ring, then their VoE: twice the same sample is twice the same
// VoE.
inline void WriteGroup(const Ring& ring, const int64_t* sample, int n, const float* score,
                       float* columns) {
  float* row = ring.window + ring.slot * ring.samples;
  for (int i = 0; i < n; ++i) row[sample[i]] = score[i];
  for (int64_t t = 0; t < ring.length; ++t) {
    const float* from = ring.window + t * ring.samples;
    for (int i = 0; i < kLanes; ++i) columns[t * kLanes + i] = from[sample[i]];
  }
  alignas(64) float voe[kLanes];
  F result;
  VoeOf<1>(columns, ring.length, kLanes, &result);
  Store(voe, result);
  for (int i = 0; i < n; ++i) ring.voe[sample[i]] = voe[i];
}

constexpr int64_t kRingInCache = 1 << 20;  // scores

// Fetches a row's column of a large ring while the rows are scored: a cache miss for each of its
// scores.
struct FetchColumn {
  const Ring& ring;
  const int64_t* sample;

  void operator()(int i) const {
    if (ring.length * ring.samples <= kRingInCache) return;
    const float* column = ring.window + sample[i];
    for (int64_t t = 0; t < ring.length; ++t) __builtin_prefetch(column + t * ring.samples);
    __builtin_prefetch(ring.voe + sample[i]);
  }
};

template <typename T>
inline void UpdateVoeRowsOf(const Ring& ring, const int64_t* index, const Logits& logits,
                            const int64_t* target, int64_t part, int64_t parts, float* columns) {
  const T* data = static_cast<const T*>(logits.data);
  const T* rows[kLanes];
  int64_t targets[kLanes], samples[kLanes];
  alignas(64) float scores[kLanes];
  int n = 0;
  for (int64_t row = 0; row <= logits.rows; ++row) {
    if (row < logits.rows) {
      if (index[row] < 0 || (parts > 1 && PartOf(index[row], parts) != part)) continue;
      rows[n] = data + row * logits.row_stride;
      targets[n] = target[row];
      samples[n] = index[row];
      if (++n < kLanes) continue;
    }
    if (n == 0) continue;
    for (int i = n; i < kLanes; ++i) {
      rows[i] = rows[0];
      targets[i] = targets[0];
      samples[i] = samples[0];
    }
    ScoreGroup(rows, targets, n, logits.classes, FetchColumn{ring, samples}, scores);
    WriteGroup(ring, samples, n, scores, columns);
    n = 0;
  }
}

// The rows whose sample belongs to `part`. columns: room for [length, kLanes].
inline void UpdateVoeRows(const Ring& ring, const int64_t* index, const Logits& logits,
                          const int64_t* target, int64_t part, int64_t parts, float* columns) {
  switch (logits.type) {
    case LogitType::kFloat32:
      return UpdateVoeRowsOf<float>(ring, index, logits, target, part, parts, columns);
    case LogitType::kFloat16:
      return UpdateVoeRowsOf<Half>(ring, index, logits, target, part, parts, columns);
    case LogitType::kBFloat16:
      return UpdateVoeRowsOf<BFloat16>(ring, index, logits, target, part, parts, columns);
  }
}
