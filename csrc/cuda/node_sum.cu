#include "cuda/node_sum_backward.cuh"
#include "cuda/node_sum_forward.cuh"
#include "cuda/run.h"

namespace bdp_ext {

void NodeSum(const NodeInputs& node, const float* weight, float eps, bool relu, float* y,
             float* mean, float* rstd) {
  const auto scratch = Scratch(node_sum_scratch_bytes(node.number, node.pixels, node.channels));
  Check(launch_node_sum(node, weight, eps, relu, y, mean, rstd, scratch.get(), CurrentStream()));
}

void NodeSumBackward(const NodeInputs& node, const float* weight, const float* mean,
                     const float* rstd, const float* grad, bool relu, float* const* grad_input,
                     float* grad_weight) {
  const auto scratch = Scratch(node_sum_scratch_bytes(node.number, node.pixels, node.channels));
  Check(launch_node_sum_backward(node, weight, mean, rstd, grad, relu, grad_input, grad_weight,
                                 scratch.get(), CurrentStream()));
}

}  // namespace bdp_ext
