#include "cuda/el2n.cuh"
#include "cuda/run.h"

namespace bdp_ext {

void El2n(const Logits& logits, const int64_t* target, float* score) {
  const auto scratch = Scratch(el2n_scratch_bytes(logits.rows, logits.classes));
  ByType(logits, [&](const auto* data) {
    Check(launch_el2n(data, logits.row_stride, target, score, logits.rows, logits.classes,
                      scratch.get(), CurrentStream()));
  });
}

}  // namespace bdp_ext
