// update_voe_ on the CPU: score a batch, write the ring, renew those samples' VoE.
//
// Each sample belongs to one thread, which takes its rows in order: where a sample stands twice the
// last row wins, at any number of threads and without a lock.

#include <stdexcept>
#include <string>
#include <vector>

#include "ops.h"

#define BDP_KERNELS "cpu/update_voe_rows.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {

constexpr int64_t kGrain = 32768;  // logits a thread is worth

void UpdateVoe(const Ring& ring, const int64_t* index, const Logits& logits,
               const int64_t* target) {
  int64_t highest = -1;
  for (int64_t row = 0; row < logits.rows; ++row)
    highest = index[row] > highest ? index[row] : highest;
  if (highest >= ring.samples) {
    throw std::out_of_range("update_voe_: index " + std::to_string(highest) + " of " +
                            std::to_string(ring.samples) + " samples");
  }
  const auto rows_of = BDP_PICK(UpdateVoeRows);
  const int64_t parts = Parts(logits.rows * (logits.classes + ring.length), kGrain);
  ForEachPart(parts, [&](int64_t part) {
    std::vector<float> columns(ring.length * kMostLanes, kNaN);
    rows_of(ring, index, logits, target, part, parts, columns.data());
  });
}

}  // namespace bdp_ext
