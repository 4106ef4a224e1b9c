#include "launch.h"
#include "voe.cuh"

namespace bdp_ext {

template cudaError_t launch_voe<float>(const float*, int64_t, int64_t, int64_t, float*,
                                       cudaStream_t);

}  // namespace bdp_ext
