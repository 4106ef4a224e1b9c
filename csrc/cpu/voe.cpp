// voe on the CPU: a whole window, a few vectors of samples at a time.

#include "ops.h"

#define BDP_KERNELS "cpu/voe_columns.h"
#include "cpu/for_each_isa.h"
#include "cpu/memory.h"
#include "cpu/parallel.h"

namespace bdp_ext {

constexpr int64_t kGrain = 32768;  // scores a thread is worth
constexpr int64_t kStreamed =
    1024 * 1024;  // samples from which the result would only push the ring out of the cache

void Voe(const float* window, int64_t length, int64_t samples, int64_t row_stride, float* voe) {
  const auto columns_of = BDP_PICK(VoeColumns);
  const bool stream = samples >= kStreamed && reinterpret_cast<uintptr_t>(voe) % 64 == 0;
  PrepareToWrite(voe, samples * sizeof(float));
  const int64_t parts = Parts(samples * length, kGrain);
  const auto first = [&](int64_t part) {
    return part == parts ? samples : samples * part / parts / kMostLanes * kMostLanes;
  };
  ForEachPart(parts, [&](int64_t part) {
    columns_of(window, length, row_stride, first(part), first(part + 1), stream, voe);
  });
}

}  // namespace bdp_ext
