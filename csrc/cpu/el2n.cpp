// el2n on the CPU: rows go to el2n_kernel.h, kLanes at a time.

#include "ops.h"

#define BDP_KERNELS "cpu/el2n_rows.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {

constexpr int64_t kGrain = 32768;  // logits a thread is worth

void El2n(const Logits& logits, const int64_t* target, float* score) {
  const auto rows_of = BDP_PICK(El2nRows);
  const int64_t parts = Parts(logits.rows * logits.classes, kGrain);
  ForEachPart(parts, [&](int64_t part) {
    rows_of(logits, target, logits.rows * part / parts, logits.rows * (part + 1) / parts, score);
  });
}

}  // namespace bdp_ext
