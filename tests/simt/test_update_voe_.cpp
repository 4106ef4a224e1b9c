// update_voe_ on every path: ring rows, duplicates, skipped rows, agreement with voe bit for bit.
#include "check.h"
#include "update_voe_.cuh"
#include "voe.cuh"

using namespace check;

template <typename T>
static void one(std::int64_t rows, std::int64_t classes, std::int64_t slots, std::int64_t samples,
                int offset = 0) {
  std::mt19937 random_bits(static_cast<unsigned>(rows * 31 + classes * 7 + slots));
  std::normal_distribution<float> normal(0, 3);
  Buffer<T> logits(rows * classes, offset);
  Buffer<std::int64_t> target(rows), index(rows);
  for (T& z : logits) store(z, normal(random_bits));
  for (std::int64_t b = 0; b < rows; ++b) {
    target[b] = b % 11 == 5
                    ? -100
                    : static_cast<std::int64_t>(random_bits() % static_cast<unsigned>(classes));
    index[b] = static_cast<std::int64_t>(random_bits() %
                                         static_cast<unsigned>(samples));  // many duplicates
    if (b % 13 == 3) index[b] = -1;
    if (b % 17 == 4) index[b] = samples + (b % 2 == 0 ? 0 : 1000);
  }
  const std::int64_t slot = static_cast<std::int64_t>(random_bits() % static_cast<unsigned>(slots));
  Buffer<float> old_window(slots * samples), old_voe(samples);
  for (float& x : old_window) x = random_bits() % 4 == 0 ? NAN : std::abs(normal(random_bits)) / 3;
  for (float& x : old_voe) x = -1;  // where nothing is written, this stays
  in_every_order([&] {
    Buffer<float> window(old_window), voe(old_voe), scores(rows), all(samples);
    Buffer<char> scratch(el2n_scratch_bytes(rows, classes));
    CHECK(launch_update_voe_(window.data(), voe.data(), slots, samples, slot, index.data(),
                             logits.data(), classes, target.data(), rows, classes, scratch.data(),
                             nullptr) == cudaSuccess,
          "launch");
    CHECK(launch_el2n(logits.data(), classes, target.data(), scores.data(), rows, classes,
                      scratch.data(), nullptr) == cudaSuccess,
          "launch");
    CHECK(launch_voe(window.data(), slots, samples, samples, all.data(), nullptr) == cudaSuccess,
          "launch");
    std::vector<std::int64_t> winner(static_cast<std::size_t>(samples), -1);
    for (std::int64_t b = 0; b < rows; ++b) {
      if (index[b] >= 0 && index[b] < samples) winner[static_cast<std::size_t>(index[b])] = b;
    }
    for (std::int64_t i = 0; i < samples; ++i) {
      const std::int64_t b = winner[static_cast<std::size_t>(i)];
      for (std::int64_t k = 0; k < slots; ++k) {
        const float want = b >= 0 && k == slot ? scores[b] : old_window[k * samples + i];
        CHECK(__float_as_uint(window[k * samples + i]) == __float_as_uint(want),
              "[%ld, %ld] K %ld: window[%ld, %ld] is %g, not %g (row %ld)", rows, classes, slots, k,
              i, window[k * samples + i], want, b);
      }
      const float want = b >= 0 ? all[i] : -1.f;
      CHECK(__float_as_uint(voe[i]) == __float_as_uint(want),
            "[%ld, %ld] K %ld: voe[%ld] is %g, not %g", rows, classes, slots, i, voe[i], want);
    }
  });
}

int main() {
  for (const std::int64_t slots : {1, 2, 10, 32, 33}) {
    one<float>(50, 3, slots, 40);
    one<float>(50, 7, slots, 40);
    one<float>(96, 10, slots, 60);
    one<float>(40, 20, slots, 30);
    one<float>(20, 100, slots, 15);
  }
#if !defined(SIMT_FLOAT_ONLY)
  one<Half>(30, 1000, 10, 20, 3);
#endif
  one<float>(30, 1000, 10, 20, 1);
  one<float>(12, 2500, 10, 8, 1);
  simt::options.multiprocessors = 8;
  one<float>(5, 21841, 10, 4);  // split rows
  simt::options.multiprocessors = 4;
  one<float>(4096, 10, 5, 3000);
  one<float>(4097, 10, 5, 3000);  // claims
  one<float>(5000, 3, 33, 100);
  one<float>(0, 10, 5, 10);
  std::printf("update_voe_: %ld launches\n", simt::launches);
}
