// el2n on every path: sub-warp, warp, block, split rows; three dtypes, every misalignment, special
// values.
#include "check.h"
#include "el2n.cuh"

using namespace check;

static std::mt19937 random_bits(1);

template <typename T>
static void one(std::int64_t rows, std::int64_t classes, int offset, std::int64_t gap,
                float spread) {
  const std::int64_t stride = classes + gap;
  Buffer<T> logits(rows == 0 ? 0 : (rows - 1) * stride + classes, offset);
  Buffer<std::int64_t> target(rows);
  std::normal_distribution<float> normal(0, spread);
  for (T& z : logits) store(z, NAN);  // also between the rows: whoever reads it shows
  for (std::int64_t b = 0; b < rows; ++b) {
    T* const row = logits.data() + b * stride;
    for (std::int64_t c = 0; c < classes; ++c) store(row[c], normal(random_bits));
    target[b] = classes == 0
                    ? 0
                    : static_cast<std::int64_t>(random_bits() % static_cast<unsigned>(classes));
    if (classes == 0) continue;
    const auto somewhere =
        static_cast<std::int64_t>(random_bits() % static_cast<unsigned>(classes));
    switch (b % 16) {  // one row in 16 of each kind; the others are plain
      case 1:
        store(row[target[b]], 90.f);
        break;  // confident: e^-90
      case 2:
        store(row[target[b]], -90.f);
        break;
      case 3:
        store(row[somewhere], NAN);
        break;
      case 4:
        store(row[somewhere], INFINITY);
        break;
      case 5:
        store(row[somewhere], -INFINITY);
        break;
      case 6:
        target[b] = -100;
        break;  // ignore_index
      case 7:
        target[b] = classes;
        break;
      case 8:
        for (std::int64_t c = 0; c < classes; ++c) store(row[c], -INFINITY);
        break;
      case 9:
        for (std::int64_t c = 0; c < classes; ++c)
          if (c != target[b]) store(row[c], -INFINITY);
        break;
      case 10:
        store(row[target[b]], -INFINITY);
        break;
      case 11:
        for (std::int64_t c = 0; c < classes; ++c) store(row[c], -30000.f);
        break;
      case 12:
        store(row[classes - 1], 40.f);
        target[b] = 0;
        break;  // the last logit decides
      case 13:
        store(row[0], 40.f);
        target[b] = classes - 1;
        break;  // the first one decides
      case 14:
        for (std::int64_t c = 0; c < classes; ++c)
          if (c != target[b]) store(row[c], -INFINITY);
        if (classes > 1) store(row[(target[b] + 1) % classes], NAN);
        break;  // no rival is finite, and one is not known
      default:
        break;
    }
  }
  const Buffer<T> before(logits);
  std::vector<float> first;
  in_every_order([&] {
    Buffer<float> out(rows);
    Buffer<char> scratch(el2n_scratch_bytes(rows, classes));
    const cudaError_t error = launch_el2n(logits.data(), stride, target.data(), out.data(), rows,
                                          classes, scratch.data(), nullptr);
    CHECK(error == cudaSuccess, "error %d", static_cast<int>(error));
    for (std::int64_t b = 0; b < rows; ++b) {
      const double want = el2n_oracle(logits.data() + b * stride, classes, target[b]);
      CHECK(close(out[b], want, 1e-6),
            "%s [%ld, %ld] offset %d stride %ld row %ld target %ld: %.9g, not %.9g", kName<T>, rows,
            classes, offset, stride, b, target[b], out[b], want);
    }
    if (first.empty()) first.assign(out.begin(), out.end());
    for (std::int64_t b = 0; b < rows; ++b) {
      CHECK(__float_as_uint(first[static_cast<std::size_t>(b)]) == __float_as_uint(out[b]),
            "depends on the order of threads");
    }
  });
  for (std::int64_t i = 0; i < logits.size(); ++i) {
    CHECK(std::memcmp(&logits[i], &before[i], sizeof(T)) == 0, "logits were written");
  }
}

template <typename T>
static void all() {
  for (const std::int64_t classes : {0, 1, 2, 3, 4, 5, 8, 9, 10, 16, 17, 31, 32}) {
    one<T>(37, classes, static_cast<int>(classes % 3), 0, 3);
  }
  one<T>(0, 10, 0, 0, 3);
  one<T>(1, 10, 0, 0, 3);
  one<T>(515, 10, 1, 0, 6);
  for (const std::int64_t classes : {33, 64, 100, 127, 128, 129, 130, 200, 255, 257, 300}) {
    one<T>(18, classes, static_cast<int>(classes % 5), 0, 4);
  }
  for (const std::int64_t classes : {512, 513, 1000, 1001, 1024, 2041, 2047, 2048}) {
    one<T>(18, classes, 0, 0, 4);
    one<T>(17, classes, 3, 0, 4);
  }
  for (int offset = 0; offset < kPack<T>; ++offset) one<T>(5, 131, offset, offset % 2, 4);
  for (int offset = 0; offset < kPack<T>; ++offset) one<T>(3, 2050 + offset, offset, 3, 4);
  simt::options.multiprocessors = 1;
  one<T>(18, 4099, 1, 0, 4);
  one<T>(3, 21841, 0, 0, 4);
  simt::options.multiprocessors = 24;
  one<T>(16, 21841, 0, 0, 4);  // 3 blocks a row
  one<T>(1, 70001, 5, 0, 4);   // 17
  simt::options.multiprocessors = 4;
}

int main() {
  all<float>();
#if !defined(SIMT_FLOAT_ONLY)
  all<Half>();
  all<BFloat16>();
#endif
  std::printf("el2n: %ld launches\n", simt::launches);
}
