// capped_topk against a greedy walk over the sorted order, bit for bit.
#include <numeric>

#include "capped_topk.cuh"
#include "check.h"

using namespace check;

static std::vector<char> greedy(const Buffer<float>& score, const std::vector<std::int64_t>& label,
                                const std::vector<std::int64_t>& cap, std::int64_t k,
                                bool largest) {
  std::vector<std::int64_t> order(label.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) {
    const float x = score[a], y = score[b];
    if (std::isnan(x) || std::isnan(y)) return !std::isnan(x) && std::isnan(y);
    return largest ? x > y : x < y;
  });
  std::vector<std::int64_t> left(cap);
  std::vector<char> mask(label.size(), 0);
  for (const std::int64_t i : order) {
    const std::int64_t c = label[static_cast<std::size_t>(i)];
    if (k == 0 || c < 0 || c >= static_cast<std::int64_t>(cap.size()) ||
        left[static_cast<std::size_t>(c)] <= 0)
      continue;
    mask[static_cast<std::size_t>(i)] = 1;
    --left[static_cast<std::size_t>(c)];
    --k;
  }
  return mask;
}

enum Scores { kUniform, kFewValues, kZeros, kTiny, kWide };
enum Labels { kRandom, kSorted, kSkewed };

static std::mt19937 random_bits(3);

template <typename L>
static void one(std::int64_t samples, std::int64_t classes, std::int64_t k, Scores scores,
                Labels labels, int caps, int offset = 0) {
  Buffer<float> score(samples, offset);
  Buffer<L> label(samples, offset);
  std::vector<std::int64_t> wide(static_cast<std::size_t>(samples)),
      cap(static_cast<std::size_t>(classes));
  const float special[] = {0.f, -0.f, INFINITY, -INFINITY, NAN, -NAN, 1e-42f, -1e-42f, 1.f, -1.f};
  for (std::int64_t i = 0; i < samples; ++i) {
    const float u = static_cast<float>(random_bits() >> 8) * 0x1p-24f;
    score[i] = scores == kUniform     ? u
               : scores == kFewValues ? special[random_bits() % 10]
               : scores == kZeros     ? 0.f
               : scores == kTiny      ? 0.25f + 1e-7f * static_cast<float>(random_bits() % 4)
                                      : __uint_as_float(random_bits());
    if (scores == kUniform && random_bits() % 50 == 0) score[i] = NAN;
    const auto c = static_cast<std::int64_t>(random_bits() % static_cast<unsigned>(classes + 1));
    wide[static_cast<std::size_t>(i)] =
        labels == kSkewed && random_bits() % 4 != 0 ? 0 : c;  // `classes` itself: invalid
    if (random_bits() % 100 == 0) wide[static_cast<std::size_t>(i)] = -1 - c % 3;
  }
  if (labels == kSorted) std::sort(wide.begin(), wide.end());
  for (std::int64_t i = 0; i < samples; ++i)
    label[i] = static_cast<L>(wide[static_cast<std::size_t>(i)]);
  const std::int64_t each = samples / std::max<std::int64_t>(classes, 1);
  for (std::int64_t& c : cap) {
    c = caps == 0 ? samples
        : caps == 1
            ? each / 3 + 1
            : static_cast<std::int64_t>(random_bits() % static_cast<unsigned>(each + 4)) - 2;
  }
  Buffer<std::int64_t> device_cap(classes);
  std::copy(cap.begin(), cap.end(), device_cap.begin());
  for (const bool largest : {false, true}) {
    const std::vector<char> want = greedy(score, wide, cap, k, largest);
    const auto count = static_cast<std::int64_t>(std::accumulate(want.begin(), want.end(), 0));
    in_some_order([&] {
      Buffer<bool> mask(samples);
      Buffer<std::int64_t> taken(1);
      Buffer<char> scratch(capped_topk_scratch_bytes(samples, classes));
      CHECK(launch_capped_topk(score.data(), label.data(), device_cap.data(), samples, classes, k,
                               largest, mask.data(), taken.data(), scratch.data(),
                               nullptr) == cudaSuccess,
            "launch");
      CHECK(taken[0] == count, "N %ld C %ld k %ld: took %ld, not %ld", samples, classes, k,
            taken[0], count);
      for (std::int64_t i = 0; i < samples; ++i) {
        const char got = reinterpret_cast<const char*>(mask.data())[i];
        CHECK(got == want[static_cast<std::size_t>(i)],
              "N %ld C %ld k %ld largest %d scores %d caps %d: sample %ld, score %g, class %ld: "
              "%d, not %d",
              samples, classes, k, largest, scores, caps, i, score[i],
              wide[static_cast<std::size_t>(i)], got, want[static_cast<std::size_t>(i)]);
      }
    });
  }
}

int main() {
  for (const Scores scores : {kUniform, kFewValues, kZeros, kTiny, kWide}) {
    for (int caps = 0; caps < 3; ++caps) one<std::int64_t>(1500, 10, 400, scores, kRandom, caps);
    one<std::int32_t>(1000, 100, 300, scores, kSorted, 2, 1);
  }
  for (const Scores scores : {kUniform, kZeros})  // a class that does not fit shared memory
    one<std::int16_t>(5000, 3, 2500, scores, kSkewed, 1);
  one<std::int16_t>(6001, 2500, 1000, kUniform, kRandom, 2, 3);  // classes counted in global memory
  one<std::int32_t>(3000, 2500, 1200, kUniform, kSorted, 1);
  one<std::int64_t>(9000, 3, 3000, kUniform, kRandom, 1);  // 1024 threads a class
  for (const std::int64_t k : {0, 1, 299, 300, 1000000})
    one<std::int64_t>(300, 7, k, kUniform, kRandom, 1);
  for (const std::int64_t samples : {1, 2, 3, 5})
    one<std::int64_t>(samples, 2, 2, kFewValues, kRandom, 0);
  one<std::int64_t>(0, 3, 2, kUniform, kRandom, 0);
  one<std::int64_t>(100, 0, 2, kUniform, kRandom, 0);
  std::printf("capped_topk: %ld launches\n", simt::launches);
}
