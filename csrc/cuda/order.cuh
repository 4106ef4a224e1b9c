// The order of the samples in capped_topk: one 64-bit rank each, lower first, all different.
#pragma once

#include "common.cuh"

namespace bdp_ext {

constexpr uint32_t kNanKey =
    0xfffffffeu;  // after every number: the largest, key(+inf) or ~key(-inf), is 0xff800000
constexpr uint32_t kNotAllowed =
    0xffffffffu;               // key of a sample that its class's cap or its label keeps out
constexpr uint64_t kNone = 0;  // no rank is that low: the lowest key, key(-inf), is 0x007fffff
constexpr uint64_t kAll =
    (static_cast<uint64_t>(kNanKey) << 32) | 0xffffffffu;  // every rank of an allowed sample

// float -> uint32, same order, -0 = +0, NaN last in both directions.
__device__ __forceinline__ uint32_t order_key(float score, bool largest) {
  if (score != score) return kNanKey;
  const uint32_t bits = __float_as_uint(score == 0.f ? 0.f : score);
  const uint32_t ascending = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return largest ? ~ascending : ascending;
}

__device__ __forceinline__ uint64_t rank_of(uint32_t key, uint32_t index) {
  return (static_cast<uint64_t>(key) << 32) | index;
}

// A label as a class, or -1.
template <typename L>
__device__ __forceinline__ int class_of(const L* label, int64_t i, int classes) {
  const auto value = static_cast<int64_t>(__ldg(label + i));
  return value >= 0 && value < classes ? static_cast<int>(value) : -1;
}

}  // namespace bdp_ext
