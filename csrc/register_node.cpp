// A node's sum and its relatives for each device: see register.cpp.

#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <tuple>
#include <vector>

#include "cuda/types.h"
#include "on_device.h"
#include "ops.h"
#include "tensors.h"

namespace bdp_ext {
namespace {

// The type that inputs are read in and their like is written in. Code for a CPU knows float32: half
// becomes that on the way in, and half again on the way out.
#ifdef USE_CUDA
ScalarType TypeInside(ScalarType type) { return type; }
#else
ScalarType TypeInside(ScalarType) { return ScalarType::Float; }
#endif

// Calls run(T{}) with it.
template <typename Run>
auto ByType(const Tensor& x, const Run& run) {
  const ScalarType type = x.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16,
      "inputs must be float32, float16 or bfloat16: float64 is for bdp_ext.backend('reference')");
#ifdef USE_CUDA
  if (type == ScalarType::Half) return run(Half{});
  if (type == ScalarType::BFloat16) return run(BFloat16{});
#endif
  return run(float{});
}

Tensor As(const Tensor& x, ScalarType type) {
  return x.scalar_type() == type ? x : torch::stable::to(x, type);
}

// [B, C, H, W], pixel after pixel in memory: as it is, or copied.
Tensor Pixels(const Tensor& x, ScalarType type) {
  STD_TORCH_CHECK(x.dim() == 4 && x.scalar_type() == type,
                  "inputs and gradients must have four dimensions and one dtype");
  return As(ChannelsLast(x), TypeInside(type));
}

// A node's tensors, their addresses, and what is checked of them.
template <typename T>
struct Node {
  Node(const OnDevice& device, const std::vector<Tensor>& inputs, const std::vector<bool>& normed)
      : type(inputs[0].scalar_type()) {
    STD_TORCH_CHECK(normed.size() == inputs.size(), "normed must have one entry per input");
    const auto shape = inputs[0].sizes();
    for (const Tensor& input : inputs) {
      device.Check(input);
      tensors.push_back(Pixels(input, type));
      STD_TORCH_CHECK(std::equal(shape.begin(), shape.end(), input.sizes().begin()),
                      "inputs must have the same shape");
      addresses.push_back(Data<T>(tensors.back()));
    }
    const int64_t channels = shape[1];
    STD_TORCH_CHECK(inputs[0].numel() > 0, "inputs must not be empty");
    view = {addresses.data(), normed, static_cast<int64_t>(inputs.size()),
            inputs[0].numel() / channels, channels};
  }
  Node(const Node&) = delete;

  const float* OfInputs(const Tensor& x, const char* message) const {
    STD_TORCH_CHECK(x.scalar_type() == ScalarType::Float && x.is_contiguous() &&
                        x.numel() == view.number * view.channels,
                    message);
    return Data<float>(x);
  }

  const ScalarType type;
  std::vector<Tensor> tensors;
  std::vector<const T*> addresses;
  NodeInputs<T> view;
};

const float* Weights(const Tensor& weight, int64_t number) {
  STD_TORCH_CHECK(
      weight.scalar_type() == ScalarType::Float && weight.dim() == 1 && weight.size(0) == number,
      "weight must be float32, one entry per input");
  return Data<float>(weight);
}

std::tuple<Tensor, Tensor, Tensor> NodeSumOp(std::vector<Tensor> inputs, const Tensor& weight_in,
                                             std::vector<bool> normed, double eps) {
  const OnDevice device({&weight_in});
  STD_TORCH_CHECK(!inputs.empty(), "there must be one input");
  return ByType(inputs[0], [&](auto kind) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(kind);
    const Node<T> node(device, inputs, normed);
    const Tensor weight = Contiguous(weight_in);
    Tensor y = torch::stable::empty_like(node.tensors[0]);
    Tensor mean = torch::stable::new_empty(weight, {node.view.number, node.view.channels});
    Tensor rstd = torch::stable::empty_like(mean);
    NodeSum(node.view, Weights(weight, node.view.number), static_cast<float>(eps), /*relu=*/false,
            Out<T>(y), Out<float>(mean), Out<float>(rstd));
    return {As(y, node.type), mean, rstd};
  });
}

std::tuple<std::vector<Tensor>, Tensor> NodeSumBackwardOp(
    const Tensor& grad_in, std::vector<Tensor> inputs, const Tensor& weight_in,
    std::vector<bool> normed, const Tensor& mean, const Tensor& rstd, double /*eps*/,
    std::vector<bool> need_inputs, bool need_weight) {
  const OnDevice device({&grad_in, &weight_in, &mean, &rstd});
  STD_TORCH_CHECK(need_inputs.size() == inputs.size(), "need_inputs must have one entry per input");
  STD_TORCH_CHECK(!inputs.empty(), "there must be one input");
  return ByType(inputs[0], [&](auto kind) -> std::tuple<std::vector<Tensor>, Tensor> {
    using T = decltype(kind);
    const Node<T> node(device, inputs, normed);
    const Tensor weight = Contiguous(weight_in);
    const Tensor grad = Pixels(grad_in, node.type);
    STD_TORCH_CHECK(grad.numel() == inputs[0].numel(), "grad must have the inputs' shape");
    std::vector<Tensor> of_inputs;
    std::vector<T*> addresses(inputs.size(), nullptr);
    for (size_t k = 0; k < inputs.size(); ++k) {
      if (!need_inputs[k]) continue;
      of_inputs.push_back(torch::stable::empty_like(node.tensors[k]));
      addresses[k] = Out<T>(of_inputs.back());
    }
    Tensor of_weight = torch::stable::new_empty(weight, {need_weight ? node.view.number : 0});
    NodeSumBackward(node.view, Weights(weight, node.view.number),
                    node.OfInputs(mean, "mean must be float32 [K, C], contiguous"),
                    node.OfInputs(rstd, "rstd must be float32 [K, C], contiguous"), Data<T>(grad),
                    /*relu=*/false, addresses.data(),
                    need_weight ? Out<float>(of_weight) : nullptr);
    for (Tensor& x : of_inputs) x = As(x, node.type);
    return {of_inputs, of_weight};
  });
}

// norm_relu's one weight. A kernel fills it: nothing is copied from the host.
Tensor One(const Tensor& like) {
  Tensor one = torch::stable::new_empty(like, {1}, ScalarType::Float);
  return torch::stable::fill_(one, 1.0);
}

std::tuple<Tensor, Tensor, Tensor> NormReluOp(const Tensor& x, double eps) {
  const OnDevice device({&x});
  return ByType(x, [&](auto kind) -> std::tuple<Tensor, Tensor, Tensor> {
    using T = decltype(kind);
    const Node<T> node(device, {x}, {true});
    const Tensor one = One(x);
    Tensor y = torch::stable::empty_like(node.tensors[0]);
    Tensor mean = torch::stable::new_empty(one, {node.view.channels});
    Tensor rstd = torch::stable::empty_like(mean);
    NodeSum(node.view, Data<float>(one), static_cast<float>(eps), /*relu=*/true, Out<T>(y),
            Out<float>(mean), Out<float>(rstd));
    return {As(y, node.type), mean, rstd};
  });
}

Tensor NormReluBackwardOp(const Tensor& grad_in, const Tensor& x, const Tensor& mean,
                          const Tensor& rstd, double /*eps*/) {
  const OnDevice device({&grad_in, &x, &mean, &rstd});
  return ByType(x, [&](auto kind) {
    using T = decltype(kind);
    const Node<T> node(device, {x}, {true});
    const Tensor one = One(x);
    const Tensor grad = Pixels(grad_in, node.type);
    STD_TORCH_CHECK(grad.numel() == x.numel(), "grad must have the shape of x");
    Tensor of_x = torch::stable::empty_like(node.tensors[0]);
    T* const address = Out<T>(of_x);
    NodeSumBackward(node.view, Data<float>(one),
                    node.OfInputs(mean, "mean must be float32 [C], contiguous"),
                    node.OfInputs(rstd, "rstd must be float32 [C], contiguous"), Data<T>(grad),
                    /*relu=*/true, &address, nullptr);
    return As(of_x, node.type);
  });
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, BDP_EXT_DEVICE, m) {
  m.impl("node_sum", TORCH_BOX(&bdp_ext::NodeSumOp));
  m.impl("node_sum_backward", TORCH_BOX(&bdp_ext::NodeSumBackwardOp));
  m.impl("norm_relu", TORCH_BOX(&bdp_ext::NormReluOp));
  m.impl("norm_relu_backward", TORCH_BOX(&bdp_ext::NormReluBackwardOp));
}
