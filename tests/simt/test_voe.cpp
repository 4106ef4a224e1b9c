// voe on every path, against float64; a constant window gives exactly 0.
#include "check.h"
#include "voe.cuh"

using namespace check;

static double oracle(const float* window, std::int64_t slots, std::int64_t samples,
                     std::int64_t i) {
  double sum = 0, squares = 0;
  int known = 0;
  for (std::int64_t k = 0; k < slots; ++k) {
    const double x = window[k * samples + i];
    if (!std::isnan(x)) sum += x, ++known;
  }
  if (known < 2) return NAN;
  for (std::int64_t k = 0; k < slots; ++k) {
    const double x = window[k * samples + i];
    if (!std::isnan(x)) squares += (x - sum / known) * (x - sum / known);
  }
  return squares / known;
}

static void one(std::int64_t slots, std::int64_t samples, int offset) {
  std::mt19937 random_bits(static_cast<unsigned>(slots * 1000 + samples));
  std::uniform_real_distribution<float> uniform(0, 1.41421356f);
  Buffer<float> window(slots * samples, offset);
  for (float& x : window) x = random_bits() % 5 == 0 ? NAN : uniform(random_bits);
  for (std::int64_t i = 0; i < samples; ++i) {
    if (i % 7 == 1)
      for (std::int64_t k = 0; k < slots; ++k) window[k * samples + i] = 0.3f;
    if (i % 7 == 2)
      for (std::int64_t k = 0; k < slots; ++k) window[k * samples + i] = NAN;
    if (i % 7 == 3)
      for (std::int64_t k = 0; k < slots; ++k) window[k * samples + i] = k == slots / 2 ? 1.f : NAN;
  }
  in_every_order([&] {
    Buffer<float> out(samples);
    CHECK(launch_voe(window.data(), slots, samples, samples, out.data(), nullptr) == cudaSuccess,
          "launch");
    for (std::int64_t i = 0; i < samples; ++i) {
      const double want = oracle(window.data(), slots, samples, i);
      CHECK(close(out[i], want, 2e-6) || std::abs(out[i] - want) < 1e-12,
            "[%ld, %ld] sample %ld: %.9g, not %.9g", slots, samples, i, out[i], want);
      if (i % 7 == 1 && slots >= 2) CHECK(out[i] == 0.f, "a constant window gives %g", out[i]);
    }
  });
}

int main() {
  for (const std::int64_t slots : {1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 32, 33, 50}) {
    one(slots, 1028, 0);
    one(slots, 257, 0);
    one(slots, 1028, 1);
    one(slots, 4, 0);
  }
  one(0, 9, 0);
  one(5, 0, 0);
  std::printf("voe: %ld launches\n", simt::launches);
}
