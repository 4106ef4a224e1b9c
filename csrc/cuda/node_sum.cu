#include "cuda/node_sum_backward.cuh"
#include "cuda/node_sum_forward.cuh"
#include "cuda/run.h"

namespace bdp_ext {

template <typename T>
void NodeSum(const NodeInputs<T>& node, const float* weight, float eps, bool relu, T* y,
             float* mean, float* rstd) {
  const auto scratch = Scratch(node_sum_scratch_bytes(node.number, node.pixels, node.channels));
  Check(launch_node_sum(node, weight, eps, relu, y, mean, rstd, scratch.get(), CurrentStream()));
}

template <typename T>
void NodeSumBackward(const NodeInputs<T>& node, const float* weight, const float* mean,
                     const float* rstd, const T* grad, bool relu, T* const* grad_input,
                     float* grad_weight) {
  const auto scratch = Scratch(node_sum_scratch_bytes(node.number, node.pixels, node.channels));
  Check(launch_node_sum_backward(node, weight, mean, rstd, grad, relu, grad_input, grad_weight,
                                 scratch.get(), CurrentStream()));
}

#define BDP_EXT_FOR(T)                                                                          \
  template void NodeSum(const NodeInputs<T>&, const float*, float, bool, T*, float*, float*);   \
  template void NodeSumBackward(const NodeInputs<T>&, const float*, const float*, const float*, \
                                const T*, bool, T* const*, float*)
BDP_EXT_FOR(float);
BDP_EXT_FOR(Half);
BDP_EXT_FOR(BFloat16);

}  // namespace bdp_ext
