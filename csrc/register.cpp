// The CPU implementations, put into the operations that bdp_ext/_register.py defines: tensors in,
// raw pointers out. Whatever bdp_ext/_checks.py refuses is refused here too, in fewer words and far
// less time; all tensors are on the CPU, or the dispatcher had called another implementation.

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "ops.h"

namespace bdp_ext {
namespace {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

Tensor Contiguous(const Tensor& x) { return x.is_contiguous() ? x : torch::stable::contiguous(x); }

template <typename T>
const T* Data(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

// Rows may lie apart, their elements may not.
Tensor WithContiguousRows(const Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : torch::stable::contiguous(x);
}

Logits LogitsOf(const Tensor& logits) {
  const ScalarType type = logits.scalar_type();
  STD_TORCH_CHECK(
      type == ScalarType::Float || type == ScalarType::Half || type == ScalarType::BFloat16,
      "logits must be float32, float16 or bfloat16");
  return {logits.const_data_ptr(),
          type == ScalarType::Float  ? LogitType::kFloat32
          : type == ScalarType::Half ? LogitType::kFloat16
                                     : LogitType::kBFloat16,
          logits.size(0), logits.size(1), logits.stride(0)};
}

void CheckRows(const Tensor& logits, const Tensor& per_row) {
  STD_TORCH_CHECK(logits.dim() == 2, "logits must have two dimensions");
  STD_TORCH_CHECK(per_row.scalar_type() == ScalarType::Long && per_row.dim() == 1 &&
                      per_row.size(0) == logits.size(0),
                  "target and index must be int64, one entry per row of logits");
}

Tensor El2nCpu(const Tensor& logits_in, const Tensor& target_in) {
  CheckRows(logits_in, target_in);
  const Tensor logits = WithContiguousRows(logits_in);
  const Tensor target = Contiguous(target_in);
  const Logits view = LogitsOf(logits);
  Tensor score = torch::stable::new_empty(logits, {view.rows}, ScalarType::Float);
  El2n(view, Data<int64_t>(target), static_cast<float*>(score.mutable_data_ptr()));
  return score;
}

void UpdateVoeCpu(const Tensor& window, const Tensor& voe, int64_t slot, const Tensor& index_in,
                  const Tensor& logits_in, const Tensor& target_in) {
  CheckRows(logits_in, target_in);
  CheckRows(logits_in, index_in);
  STD_TORCH_CHECK(window.dim() == 2 && voe.dim() == 1 && window.is_contiguous() &&
                      voe.is_contiguous() && window.scalar_type() == ScalarType::Float &&
                      voe.scalar_type() == ScalarType::Float && voe.numel() == window.size(1),
                  "window [K, N] and voe [N] must be contiguous float32");
  STD_TORCH_CHECK(slot >= 0 && slot < window.size(0), "slot must be in [0, K)");
  const Tensor logits = WithContiguousRows(logits_in);
  const Tensor target = Contiguous(target_in);
  const Tensor index = Contiguous(index_in);
  const Logits view = LogitsOf(logits);
  UpdateVoe({static_cast<float*>(window.mutable_data_ptr()),
             static_cast<float*>(voe.mutable_data_ptr()), window.size(0), window.size(1), slot},
            Data<int64_t>(index), view, Data<int64_t>(target));
}

Tensor VoeCpu(const Tensor& window_in) {
  STD_TORCH_CHECK(window_in.dim() == 2 && window_in.scalar_type() == ScalarType::Float,
                  "window must be float32 with two dimensions");
  const Tensor window = WithContiguousRows(window_in);
  const int64_t samples = window.size(1);
  Tensor voe = torch::stable::new_empty(window, {samples});
  Voe(Data<float>(window), window.size(0), samples, window.stride(0),
      static_cast<float*>(voe.mutable_data_ptr()));
  return voe;
}

std::tuple<Tensor, Tensor> CappedTopkCpu(const Tensor& score_in, const Tensor& label_in,
                                         const Tensor& cap_in, int64_t k, bool largest) {
  const ScalarType type = label_in.scalar_type();
  STD_TORCH_CHECK(score_in.scalar_type() == ScalarType::Float && score_in.dim() == 1,
                  "score must be float32 with one dimension");
  STD_TORCH_CHECK(type == ScalarType::Long || type == ScalarType::Int || type == ScalarType::Short,
                  "label must be int64, int32 or int16");
  STD_TORCH_CHECK(label_in.dim() == 1 && label_in.numel() == score_in.numel(),
                  "label must have one entry per score");
  STD_TORCH_CHECK(cap_in.scalar_type() == ScalarType::Long && cap_in.dim() == 1,
                  "cap must be int64 with one dimension");
  STD_TORCH_CHECK(k >= 0, "k must be >= 0");
  const Tensor score = Contiguous(score_in);
  const Tensor label = Contiguous(label_in);
  const Tensor cap = Contiguous(cap_in);
  Tensor mask = torch::stable::new_empty(score, {score.numel()}, ScalarType::Bool);
  Tensor taken = torch::stable::new_empty(score, {}, ScalarType::Long);
  *static_cast<int64_t*>(taken.mutable_data_ptr()) =
      CappedTopk(Data<float>(score), label.const_data_ptr(),
                 type == ScalarType::Long  ? LabelType::kInt64
                 : type == ScalarType::Int ? LabelType::kInt32
                                           : LabelType::kInt16,
                 score.numel(), Data<int64_t>(cap), cap.numel(), k, largest,
                 static_cast<bool*>(mask.mutable_data_ptr()));
  return {mask, taken};
}

DepthwiseConv2dShape ShapeOf(const Tensor& input, const Tensor& weight, int64_t stride,
                             int64_t padding, int64_t dilation) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 4 && weight.size(0) == input.size(1) &&
                      weight.size(1) == 1 && weight.size(2) == weight.size(3),
                  "input must be [B, C, H, W] and weight [C, 1, k, k]");
  STD_TORCH_CHECK(stride >= 1 && padding >= 0 && dilation >= 1,
                  "stride and dilation must be >= 1, padding >= 0");
  const int64_t kernel = weight.size(2), rest = 2 * padding - dilation * (kernel - 1) - 1;
  const int64_t height = input.size(2), width = input.size(3);
  STD_TORCH_CHECK(kernel >= 1 && height + rest >= 0 && width + rest >= 0,
                  "the kernel is larger than the padded input");
  return {input.size(0),
          input.size(1),
          height,
          width,
          (height + rest) / stride + 1,
          (width + rest) / stride + 1,
          kernel,
          stride,
          padding,
          dilation};
}

bool IsOurs(const DepthwiseConv2dShape& shape, const Tensor& input, const Tensor& weight) {
  return HasDepthwiseConv2d(shape) && input.scalar_type() == ScalarType::Float &&
         weight.scalar_type() == ScalarType::Float;
}

Tensor ChannelsLast(const Tensor& x) {
  return torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
}

Tensor EmptyChannelsLast(const Tensor& like, int64_t height, int64_t width) {
  return torch::stable::empty({like.size(0), like.size(1), height, width}, like.scalar_type(),
                              std::nullopt, std::nullopt, std::nullopt, MemoryFormat::ChannelsLast);
}

// Where there is no code of ours.
Tensor TorchConvolution(const Tensor& input, const Tensor& weight, int64_t stride, int64_t padding,
                        int64_t dilation, int64_t groups) {
  using torch::stable::detail::from;
  const std::vector<int64_t> strides(2, stride), paddings(2, padding), dilations(2, dilation);
  std::array<StableIValue, 9> stack = {from(input),
                                       from(weight),
                                       from(std::optional<Tensor>()),
                                       from(strides),
                                       from(paddings),
                                       from(dilations),
                                       from(false),
                                       from(std::vector<int64_t>(2, 0)),
                                       from(groups)};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::convolution", "", stack.data(), TORCH_ABI_VERSION));
  return ChannelsLast(torch::stable::detail::to<Tensor>(stack[0]));
}

std::tuple<Tensor, Tensor> TorchConvolutionBackward(const Tensor& grad, const Tensor& input,
                                                    const Tensor& weight, int64_t stride,
                                                    int64_t padding, int64_t dilation,
                                                    int64_t groups, bool need_input,
                                                    bool need_weight) {
  using torch::stable::detail::from;
  const std::vector<int64_t> strides(2, stride), paddings(2, padding), dilations(2, dilation);
  const std::array<bool, 3> wanted = {need_input, need_weight, false};
  std::array<StableIValue, 11> stack = {from(grad),
                                        from(input),
                                        from(weight),
                                        from(std::optional<std::vector<int64_t>>()),
                                        from(strides),
                                        from(paddings),
                                        from(dilations),
                                        from(false),
                                        from(std::vector<int64_t>(2, 0)),
                                        from(groups),
                                        from(torch::headeronly::HeaderOnlyArrayRef<bool>(wanted))};
  TORCH_ERROR_CODE_CHECK(
      torch_call_dispatcher("aten::convolution_backward", "", stack.data(), TORCH_ABI_VERSION));
  const Tensor grad_input = torch::stable::detail::to<Tensor>(stack[0]);
  const Tensor grad_weight = torch::stable::detail::to<Tensor>(stack[1]);
  torch::stable::detail::to<Tensor>(stack[2]);  // the bias's; owns nothing
  const Tensor none = torch::stable::new_empty(input, {0});
  return {need_input ? ChannelsLast(grad_input) : none, need_weight ? grad_weight : none};
}

Tensor DepthwiseConv2dCpu(const Tensor& input_in, const Tensor& weight_in, int64_t stride,
                          int64_t padding, int64_t dilation) {
  const DepthwiseConv2dShape shape = ShapeOf(input_in, weight_in, stride, padding, dilation);
  if (!IsOurs(shape, input_in, weight_in)) {
    return TorchConvolution(input_in, weight_in, stride, padding, dilation, shape.channels);
  }
  const Tensor input = ChannelsLast(input_in), weight = Contiguous(weight_in);
  Tensor output = EmptyChannelsLast(input, shape.out_height, shape.out_width);
  DepthwiseConv2d(shape, Data<float>(input), Data<float>(weight),
                  static_cast<float*>(output.mutable_data_ptr()));
  return output;
}

std::tuple<Tensor, Tensor> DepthwiseConv2dBackwardCpu(const Tensor& grad_in, const Tensor& input_in,
                                                      const Tensor& weight_in, int64_t stride,
                                                      int64_t padding, int64_t dilation,
                                                      bool need_input, bool need_weight) {
  const DepthwiseConv2dShape shape = ShapeOf(input_in, weight_in, stride, padding, dilation);
  STD_TORCH_CHECK(grad_in.dim() == 4 && grad_in.size(0) == shape.batch &&
                      grad_in.size(1) == shape.channels && grad_in.size(2) == shape.out_height &&
                      grad_in.size(3) == shape.out_width &&
                      grad_in.scalar_type() == input_in.scalar_type(),
                  "grad must have the shape and dtype of the output");
  if (!IsOurs(shape, input_in, weight_in)) {
    return TorchConvolutionBackward(grad_in, input_in, weight_in, stride, padding, dilation,
                                    shape.channels, need_input, need_weight);
  }
  Tensor none = torch::stable::new_empty(input_in, {0});
  const Tensor grad = ChannelsLast(grad_in), weight = Contiguous(weight_in);
  const Tensor input = need_weight ? ChannelsLast(input_in) : input_in;
  Tensor grad_input = need_input ? EmptyChannelsLast(input, shape.height, shape.width) : none;
  Tensor grad_weight = need_weight ? torch::stable::new_empty(weight, weight.sizes()) : none;
  DepthwiseConv2dBackward(
      shape, Data<float>(grad), Data<float>(input), Data<float>(weight),
      need_input ? static_cast<float*>(grad_input.mutable_data_ptr()) : nullptr,
      need_weight ? static_cast<float*>(grad_weight.mutable_data_ptr()) : nullptr);
  return {grad_input, grad_weight};
}

Conv3x3Shape Conv3x3ShapeOf(const Tensor& input, const Tensor& weight) {
  STD_TORCH_CHECK(input.dim() == 4 && weight.dim() == 4 && weight.size(1) == input.size(1) &&
                      weight.size(2) == 3 && weight.size(3) == 3 &&
                      weight.scalar_type() == input.scalar_type(),
                  "input must be [B, I, H, W] and weight [O, I, 3, 3], of the same dtype");
  STD_TORCH_CHECK(input.size(2) > 0 && input.size(3) > 0, "input must have height and width");
  return {input.size(0), input.size(1), weight.size(0), input.size(2), input.size(3)};
}

bool IsOurs(const Conv3x3Shape& shape, const Tensor& input) {
  return HasConv3x3(shape) && input.scalar_type() == ScalarType::Float;
}

template <typename T>
Conv3x3WeightAt<T> At(T* data, const Tensor& weight) {
  return {data, weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)};
}

Tensor EmptyImage(const Tensor& like, int64_t channels) {
  return torch::stable::empty({like.size(0), channels, like.size(2), like.size(3)},
                              like.scalar_type(), std::nullopt, std::nullopt, std::nullopt,
                              MemoryFormat::ChannelsLast);
}

Tensor Conv3x3Cpu(const Tensor& input_in, const Tensor& weight) {
  const Conv3x3Shape shape = Conv3x3ShapeOf(input_in, weight);
  if (!IsOurs(shape, input_in)) return TorchConvolution(input_in, weight, 1, 1, 1, 1);
  const Tensor input = ChannelsLast(input_in);
  Tensor output = EmptyImage(input, shape.out_channels);
  Conv3x3(shape, Data<float>(input), At(Data<float>(weight), weight),
          static_cast<float*>(output.mutable_data_ptr()));
  return output;
}

std::tuple<Tensor, Tensor> Conv3x3BackwardCpu(const Tensor& grad_in, const Tensor& input_in,
                                              const Tensor& weight, bool need_input,
                                              bool need_weight) {
  const Conv3x3Shape shape = Conv3x3ShapeOf(input_in, weight);
  STD_TORCH_CHECK(grad_in.dim() == 4 && grad_in.size(0) == shape.batch &&
                      grad_in.size(1) == shape.out_channels && grad_in.size(2) == shape.height &&
                      grad_in.size(3) == shape.width &&
                      grad_in.scalar_type() == input_in.scalar_type(),
                  "grad must have the shape and dtype of the output");
  if (!IsOurs(shape, input_in)) {
    auto [grad_input, grad_weight] =
        TorchConvolutionBackward(grad_in, input_in, weight, 1, 1, 1, 1, need_input, need_weight);
    if (!need_weight) return {grad_input, grad_weight};
    Tensor alike = torch::stable::empty_like(weight);
    return {grad_input, torch::stable::copy_(alike, grad_weight)};
  }
  const Tensor grad = ChannelsLast(grad_in), none = torch::stable::new_empty(input_in, {0});
  Tensor grad_input = none, grad_weight = none;
  if (need_input) {
    grad_input = EmptyImage(grad, shape.in_channels);
    Conv3x3InputGradient(shape, Data<float>(grad), At(Data<float>(weight), weight),
                         static_cast<float*>(grad_input.mutable_data_ptr()));
  }
  if (need_weight) {
    const Tensor input = ChannelsLast(input_in);
    grad_weight = torch::stable::empty_like(weight);
    Conv3x3WeightGradient(shape, Data<float>(grad), Data<float>(input),
                          At(static_cast<float*>(grad_weight.mutable_data_ptr()), grad_weight));
  }
  return {grad_input, grad_weight};
}

// [B, C, H, W] float32, pixel after pixel in memory: as it is, or copied.
Tensor Pixels(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4 && x.scalar_type() == ScalarType::Float,
                  "inputs and gradients must be float32 with four dimensions");
  return torch::stable::contiguous(x, torch::headeronly::MemoryFormat::ChannelsLast);
}

// A node's tensors, their addresses, and what is checked of them.
struct Node {
  Node(const std::vector<Tensor>& inputs, const std::vector<bool>& normed) {
    STD_TORCH_CHECK(!inputs.empty() && normed.size() == inputs.size(),
                    "normed must have one entry per input, and there must be one");
    const auto shape = inputs[0].sizes();
    for (const Tensor& input : inputs) {
      tensors.push_back(Pixels(input));
      STD_TORCH_CHECK(std::equal(shape.begin(), shape.end(), input.sizes().begin()),
                      "inputs must have the same shape");
      addresses.push_back(Data<float>(tensors.back()));
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

  std::vector<Tensor> tensors;
  std::vector<const float*> addresses;
  NodeInputs view;
};

const float* Weights(const Tensor& weight, int64_t number) {
  STD_TORCH_CHECK(
      weight.scalar_type() == ScalarType::Float && weight.dim() == 1 && weight.size(0) == number,
      "weight must be float32, one entry per input");
  return Data<float>(weight);
}

float* Out(Tensor& x) { return static_cast<float*>(x.mutable_data_ptr()); }

std::tuple<Tensor, Tensor, Tensor> NodeSumCpu(std::vector<Tensor> inputs, const Tensor& weight_in,
                                              std::vector<bool> normed, double eps) {
  const Node node(inputs, normed);
  const Tensor weight = Contiguous(weight_in);
  Tensor y = torch::stable::empty_like(node.tensors[0]);
  Tensor mean = torch::stable::new_empty(weight, {node.view.number, node.view.channels});
  Tensor rstd = torch::stable::empty_like(mean);
  NodeSum(node.view, Weights(weight, node.view.number), static_cast<float>(eps), /*relu=*/false,
          Out(y), Out(mean), Out(rstd));
  return {y, mean, rstd};
}

std::tuple<std::vector<Tensor>, Tensor> NodeSumBackwardCpu(
    const Tensor& grad_in, std::vector<Tensor> inputs, const Tensor& weight_in,
    std::vector<bool> normed, const Tensor& mean, const Tensor& rstd, double /*eps*/,
    std::vector<bool> need_inputs, bool need_weight) {
  const Node node(inputs, normed);
  const Tensor weight = Contiguous(weight_in);
  const Tensor grad = Pixels(grad_in);
  STD_TORCH_CHECK(grad.numel() == inputs[0].numel(), "grad must have the inputs' shape");
  STD_TORCH_CHECK(need_inputs.size() == inputs.size(), "need_inputs must have one entry per input");
  std::vector<Tensor> of_inputs;
  std::vector<float*> addresses(inputs.size(), nullptr);
  for (size_t k = 0; k < inputs.size(); ++k) {
    if (!need_inputs[k]) continue;
    of_inputs.push_back(torch::stable::empty_like(node.tensors[k]));
    addresses[k] = Out(of_inputs.back());
  }
  Tensor of_weight = torch::stable::new_empty(weight, {need_weight ? node.view.number : 0});
  NodeSumBackward(node.view, Weights(weight, node.view.number),
                  node.OfInputs(mean, "mean must be float32 [K, C], contiguous"),
                  node.OfInputs(rstd, "rstd must be float32 [K, C], contiguous"), Data<float>(grad),
                  /*relu=*/false, addresses.data(), need_weight ? Out(of_weight) : nullptr);
  return {of_inputs, of_weight};
}

constexpr float kOne = 1.0f;

std::tuple<Tensor, Tensor, Tensor> NormReluCpu(const Tensor& x, double eps) {
  const Node node({x}, {true});
  Tensor y = torch::stable::empty_like(node.tensors[0]);
  Tensor mean = torch::stable::new_empty(x, {node.view.channels});
  Tensor rstd = torch::stable::empty_like(mean);
  NodeSum(node.view, &kOne, static_cast<float>(eps), /*relu=*/true, Out(y), Out(mean), Out(rstd));
  return {y, mean, rstd};
}

Tensor NormReluBackwardCpu(const Tensor& grad_in, const Tensor& x, const Tensor& mean,
                           const Tensor& rstd, double /*eps*/) {
  const Node node({x}, {true});
  const Tensor grad = Pixels(grad_in);
  STD_TORCH_CHECK(grad.numel() == x.numel(), "grad must have the shape of x");
  Tensor of_x = torch::stable::empty_like(node.tensors[0]);
  float* const address = Out(of_x);
  NodeSumBackward(node.view, &kOne, node.OfInputs(mean, "mean must be float32 [C], contiguous"),
                  node.OfInputs(rstd, "rstd must be float32 [C], contiguous"), Data<float>(grad),
                  /*relu=*/true, &address, nullptr);
  return of_x;
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, CPU, m) {
  m.impl("el2n", TORCH_BOX(&bdp_ext::El2nCpu));
  m.impl("update_voe_", TORCH_BOX(&bdp_ext::UpdateVoeCpu));
  m.impl("voe", TORCH_BOX(&bdp_ext::VoeCpu));
  m.impl("capped_topk", TORCH_BOX(&bdp_ext::CappedTopkCpu));
  m.impl("depthwise_conv2d", TORCH_BOX(&bdp_ext::DepthwiseConv2dCpu));
  m.impl("depthwise_conv2d_backward", TORCH_BOX(&bdp_ext::DepthwiseConv2dBackwardCpu));
  m.impl("conv3x3", TORCH_BOX(&bdp_ext::Conv3x3Cpu));
  m.impl("conv3x3_backward", TORCH_BOX(&bdp_ext::Conv3x3BackwardCpu));
  m.impl("node_sum", TORCH_BOX(&bdp_ext::NodeSumCpu));
  m.impl("node_sum_backward", TORCH_BOX(&bdp_ext::NodeSumBackwardCpu));
  m.impl("norm_relu", TORCH_BOX(&bdp_ext::NormReluCpu));
  m.impl("norm_relu_backward", TORCH_BOX(&bdp_ext::NormReluBackwardCpu));
}
