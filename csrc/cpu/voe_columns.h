// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.

#include "cpu/voe_kernel.h"

constexpr int kVoeVectors =
    4;  // of 64 bytes: whole bursts of each row keep the memory busy, 16.7 ms against 19.2

// voe[begin, end). With `stream` the stores go past the cache; voe + begin must be aligned to 64
// bytes.
inline void VoeColumns(const float* window, int64_t length, int64_t stride, int64_t begin,
                       int64_t end, bool stream, float* voe) {
  F result[kVoeVectors];
  int64_t i = begin;
  for (; i + kVoeVectors * kLanes <= end; i += kVoeVectors * kLanes) {
    VoeOf<kVoeVectors>(window + i, length, stride, result);
    for (int v = 0; v < kVoeVectors; ++v) {
      float* to = voe + i + v * kLanes;
      stream ? Stream(to, result[v]) : Store(to, result[v]);
    }
  }
  if (stream) StreamFence();
  for (; i + kLanes <= end; i += kLanes) {
    VoeOf<1>(window + i, length, stride, result);
    Store(voe + i, result[0]);
  }
  if (i == end) return;
  alignas(64) float last[kLanes];
  Store(last, VoeWithUnknown<false>(window + i, length, stride, end - i));
  std::memcpy(voe + i, last, (end - i) * sizeof(float));
}
