// What the test programs of tests/simt share: buffers as a kernel sees them, random numbers, a
// check that ends the run.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <random>
#include <vector>

#include "common.cuh"

#define CHECK(condition, ...)                                              \
  do {                                                                     \
    if (!(condition)) {                                                    \
      std::fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition); \
      std::fprintf(stderr, __VA_ARGS__);                                   \
      std::fprintf(stderr, "\n");                                          \
      std::_Exit(1);                                                       \
    }                                                                      \
  } while (false)

namespace check {

using namespace bdp_ext;

// `size` elements that start `offset` elements after a 16-byte boundary and end where the
// allocation ends, so that ASan sees a read past the last one.
template <typename T>
class Buffer {
 public:
  explicit Buffer(std::int64_t size, int offset = 0)
      : memory_(static_cast<char*>(std::malloc(static_cast<std::size_t>(size + offset) * sizeof(T) +
                                               (size + offset == 0)))),
        size_(size),
        offset_(offset) {
    CHECK(reinterpret_cast<std::uintptr_t>(memory_) % 16 == 0, "malloc aligns to 16 bytes");
    std::fill(memory_, memory_ + static_cast<std::size_t>(size + offset) * sizeof(T), '\xff');
  }
  Buffer(const Buffer& other) : Buffer(other.size_, other.offset_) {
    std::copy(other.begin(), other.end(), begin());
  }
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(memory_); }
  T* data() const { return reinterpret_cast<T*>(memory_) + offset_; }
  T* begin() const { return data(); }
  T* end() const { return data() + size_; }
  std::int64_t size() const { return size_; }
  T& operator[](std::int64_t i) const { return data()[i]; }

 private:
  char* memory_;
  std::int64_t size_;
  int offset_;
};

// A float as T, and what T makes of it.
inline void store(float& at, float value) { at = value; }
inline void store(BFloat16& at, float value) {
  at.bits = static_cast<std::uint16_t>(__float_as_uint(value) >> 16);
}
inline void store(Half& at, float value) {  // truncated; enough for logits
  const std::uint32_t bits = __float_as_uint(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000u);
  const int exponent = static_cast<int>(bits >> 23 & 255) - 112;
  if (std::isnan(value))
    at.bits = 0x7e00;
  else if (exponent >= 31)
    at.bits = static_cast<std::uint16_t>(sign | 0x7c00u);
  else if (exponent <= 0)
    at.bits = sign;
  else
    at.bits = static_cast<std::uint16_t>(sign | static_cast<unsigned>(exponent) << 10 |
                                         (bits >> 13 & 1023u));
}
inline double value_of(float x) { return x; }
inline double value_of(BFloat16 x) {
  return __uint_as_float(static_cast<std::uint32_t>(x.bits) << 16);
}
inline double value_of(Half x) { return simt::half_bits_to_float(x.bits); }
template <typename T>
constexpr const char* kName = sizeof(T) == 4            ? "float32"
                              : std::is_same_v<T, Half> ? "float16"
                                                        : "bfloat16";

// Eq. 3 in float64, as bdp_ext/ops/reference.py has it.
template <typename T>
double el2n_oracle(const T* row, std::int64_t classes, std::int64_t target) {
  double top = -INFINITY, any = -INFINITY;
  if (target < 0 || target >= classes) return NAN;
  for (std::int64_t c = 0; c < classes; ++c) {
    const double z = value_of(row[c]);
    if (std::isnan(z) || z == INFINITY) return NAN;
    any = std::max(any, z);
    if (c != target) top = std::max(top, z);
  }
  if (any == -INFINITY) return NAN;
  if (top == -INFINITY) return 0;
  double s1 = 0, s2 = 0;
  for (std::int64_t c = 0; c < classes; ++c) {
    if (c == target) continue;
    const double e = std::exp(value_of(row[c]) - top);
    s1 += e;
    s2 += e * e;
  }
  const double margin = value_of(row[target]) - top, t = std::exp(-std::abs(margin)),
               length = std::sqrt(s1 * s1 + s2);
  return margin > 0 ? length * t / (s1 * t + 1) : length / (s1 + t);
}

inline bool close(double got, double want, double relative) {
  if (std::isnan(want)) return std::isnan(got);
  return std::abs(got - want) <= relative * std::abs(want) + 1e-44;  // the last float32 denormals
}

// Runs `body` with threads and blocks in another order than the last time.
template <typename Body>
void in_some_order(const Body& body) {
  static unsigned turn = 0;
  constexpr simt::Order kOrders[] = {simt::Order::kForward, simt::Order::kReverse,
                                     simt::Order::kShuffled};
  simt::options.order = kOrders[turn % 3];
  simt::options.seed = turn++;
  body();
}

template <typename Body>
void in_every_order(const Body& body) {
  for (int i = 0; i < 3; ++i) in_some_order(body);
}

}  // namespace check
