#include "cuda/run.h"
#include "cuda/update_voe_.cuh"

namespace bdp_ext {

void UpdateVoe(const Ring& ring, const int64_t* index, const Logits& logits,
               const int64_t* target) {
  const auto scratch = Scratch(el2n_scratch_bytes(logits.rows, logits.classes));
  ByType(logits, [&](const auto* data) {
    Check(launch_update_voe_(ring.window, ring.voe, ring.length, ring.samples, ring.slot, index,
                             data, logits.row_stride, target, logits.rows, logits.classes,
                             scratch.get(), CurrentStream()));
  });
}

}  // namespace bdp_ext
