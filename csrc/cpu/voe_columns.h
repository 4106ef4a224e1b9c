// Included by for_each_isa.h inside bdp_ext::<isa>; no include guard.

#include "cpu/voe_kernel.h"

// voe[begin, end)
inline void VoeColumns(const float* window, int64_t length, int64_t stride, int64_t begin,
                       int64_t end, float* voe) {
  int64_t i = begin;
  for (; i + kLanes <= end; i += kLanes) {
    Store(voe + i, VoeOf(window + i, length, stride));
  }
  if (i == end) return;
  alignas(64) float last[kLanes];
  Store(last, VoeWithUnknown<false>(window + i, length, stride, end - i));
  std::memcpy(voe + i, last, (end - i) * sizeof(float));
}
