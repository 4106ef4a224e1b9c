#include "cuda/capped_topk.cuh"
#include "cuda/run.h"

namespace bdp_ext {

void CappedTopk(const float* score, const void* label, LabelType label_type, int64_t samples,
                const int64_t* cap, int64_t classes, int64_t k, bool largest, bool* mask,
                int64_t* taken) {
  const auto scratch = Scratch(capped_topk_scratch_bytes(samples, classes));
  const auto run = [&](const auto* labels) {
    Check(launch_capped_topk(score, labels, cap, samples, classes, k, largest, mask, taken,
                             scratch.get(), CurrentStream()));
  };
  switch (label_type) {
    case LabelType::kInt64:
      return run(static_cast<const int64_t*>(label));
    case LabelType::kInt32:
      return run(static_cast<const int32_t*>(label));
    case LabelType::kInt16:
      return run(static_cast<const int16_t*>(label));
  }
}

}  // namespace bdp_ext
