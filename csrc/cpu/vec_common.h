// What the vector headers share: the 16-bit logit types and their scalar conversion.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace bdp_ext {

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

inline float FromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline float ToFloat(float value) { return value; }
inline float ToFloat(BFloat16 value) { return FromBits(static_cast<uint32_t>(value.bits) << 16); }
inline float ToFloat(Half value) {
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
  const uint32_t rest = value.bits & 0x7fffu;
  if (rest >= 0x7c00u) return FromBits(sign | 0x7f800000u | (rest & 0x3ffu) << 13);  // inf, NaN
  // Read as if the exponent had float's bias, then corrected by 2^112: exact for subnormals, too.
  return FromBits(sign) + FromBits(rest << 13) * FromBits(0x77800000u) * (sign ? -1.0f : 1.0f);
}

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// The keys in (low, high], in order, to out; returns how many. out may be `key` itself; room for n
// keys. avx512 has a version of its own.
inline int64_t Filter(const int32_t* key, int64_t n, int32_t low, int32_t high, int32_t* out) {
  int64_t kept = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t x = key[i];
    out[kept] = x;
    kept += (x > low) & (x <= high);
  }
  return kept;
}

constexpr int64_t kMostLanes = 16;  // the widest kLanes

}  // namespace bdp_ext
