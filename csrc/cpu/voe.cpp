// voe on the CPU: a whole window, kLanes samples at a time.

#include "ops.h"

#define BDP_KERNELS "cpu/voe_columns.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {

constexpr int64_t kGrain = 32768;  // scores a thread is worth

void Voe(const float* window, int64_t length, int64_t samples, int64_t row_stride, float* voe) {
  const auto columns_of = BDP_PICK(VoeColumns);
  const int64_t parts = Parts(samples * length, kGrain);
  ForEachPart(parts, [&](int64_t part) {
    columns_of(window, length, row_stride, samples * part / parts, samples * (part + 1) / parts,
               voe);
  });
}

}  // namespace bdp_ext
