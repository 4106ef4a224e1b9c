#include "launch.h"
#include "node_sum.cuh"

namespace bdp_ext {

template int64_t node_sum_scratch_bytes<float>(int64_t, int64_t, int64_t);
template cudaError_t launch_node_sum<float>(const NodeTensors&, const float*, float, bool, float*,
                                            float*, float*, void*, cudaStream_t);
template cudaError_t launch_node_sum_backward<float>(const NodeTensors&, const float*, const float*,
                                                     const float*, const float*, bool, float*,
                                                     void*, cudaStream_t);

}  // namespace bdp_ext
