#include "cuda/run.h"
#include "cuda/voe.cuh"

namespace bdp_ext {

void Voe(const float* window, int64_t length, int64_t samples, int64_t row_stride, float* voe) {
  Check(launch_voe(window, length, samples, row_stride, voe, CurrentStream()));
}

}  // namespace bdp_ext
