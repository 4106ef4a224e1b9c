// The variance of one sample's known scores (BDP, Eq. 4), for voe and update_voe_.
//
// Two passes, shifted by the first known score in slot order: a constant window gives exactly 0.
// Both operations call this, in slot order, so that they agree bit for bit. Division is to 2 ulp:
// the exact one calls a slow path, and registers spill around the call.
#pragma once

#include "common.cuh"

namespace bdp_ext {

// visit(f) calls f with each slot's score, NaN where unknown, in slot order. It is asked to do so
// twice.
template <typename Visit>
__device__ __forceinline__ float variance_of(const Visit& visit) {
  float shift = 0.f, sum = 0.f;
  int known = 0;
  visit([&](float x) {  // selects instead of branches: shuffles stand between these
    const bool is_known = x == x;
    shift = is_known && known == 0 ? x : shift;
    sum += is_known ? x - shift : 0.f;
    known += is_known ? 1 : 0;
  });
  const float mean = __fdividef(sum, static_cast<float>(known));
  float squares = 0.f;
  visit([&](float x) {
    const float deviation = x == x ? (x - shift) - mean : 0.f;
    squares = fmaf(deviation, deviation, squares);
  });
  return known >= 2 ? __fdividef(squares, static_cast<float>(known)) : quiet_nan();
}

}  // namespace bdp_ext
