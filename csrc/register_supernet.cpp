// The supernets' operations on the CPU: see register.cpp.

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

Pool3x3Shape PoolShapeOf(const Tensor& input, int64_t stride) {
  STD_TORCH_CHECK(input.dim() == 4 && input.size(2) >= 1 && input.size(3) >= 1,
                  "input must be [B, C, H, W], H and W >= 1");
  STD_TORCH_CHECK(stride == 1 || stride == 2, "stride must be 1 or 2");
  const int64_t height = input.size(2), width = input.size(3);
  return {input.size(0),
          input.size(1),
          height,
          width,
          (height - 1) / stride + 1,
          (width - 1) / stride + 1,
          stride};
}

// Calls torch's own operation; the results, kOutputs of them, come first in the array.
template <size_t kOutputs, typename... Arguments>
std::array<Tensor, kOutputs> CallTorch(const char* name, const Arguments&... arguments) {
  StableIValue stack[] = {torch::stable::detail::from(arguments)...};
  static_assert(sizeof...(Arguments) >= kOutputs);
  TORCH_ERROR_CODE_CHECK(torch_call_dispatcher(name, "", stack, TORCH_ABI_VERSION));
  std::array<Tensor, kOutputs> results;
  for (size_t i = 0; i < kOutputs; ++i) results[i] = torch::stable::detail::to<Tensor>(stack[i]);
  return results;
}

const std::vector<int64_t> kThree(2, 3), kOnes(2, 1);

std::array<Tensor, 2> MaxPoolOfTorch(const Tensor& input, int64_t stride) {
  return CallTorch<2>("aten::max_pool2d_with_indices", input, kThree,
                      std::vector<int64_t>(2, stride), kOnes, kOnes, false);
}

std::tuple<Tensor, Tensor> Pool3x3Cpu(const Tensor& input_in, int64_t stride, bool average,
                                      bool maximum) {
  const Pool3x3Shape shape = PoolShapeOf(input_in, stride);
  Tensor averages = torch::stable::new_empty(input_in, {0});
  Tensor maxima = torch::stable::new_empty(input_in, {0});
  if (input_in.scalar_type() != ScalarType::Float) {
    if (average) {
      averages = ChannelsLast(CallTorch<1>("aten::avg_pool2d", input_in, kThree,
                                           std::vector<int64_t>(2, stride), kOnes, false, false,
                                           std::optional<int64_t>())[0]);
    }
    if (maximum) maxima = ChannelsLast(MaxPoolOfTorch(input_in, stride)[0]);
    return {averages, maxima};
  }
  const Tensor input = ChannelsLast(input_in);
  if (average) averages = EmptyChannelsLast(input, shape.out_height, shape.out_width);
  if (maximum) maxima = EmptyChannelsLast(input, shape.out_height, shape.out_width);
  Pool3x3(shape, Data<float>(input),
          average ? static_cast<float*>(averages.mutable_data_ptr()) : nullptr,
          maximum ? static_cast<float*>(maxima.mutable_data_ptr()) : nullptr);
  return {averages, maxima};
}

Tensor Pool3x3BackwardOfTorch(const std::optional<Tensor>& grad_average,
                              const std::optional<Tensor>& grad_maximum, const Tensor& input,
                              int64_t stride) {
  const std::vector<int64_t> strides(2, stride);
  Tensor of_average, of_maximum;
  if (grad_average) {
    of_average = CallTorch<1>("aten::avg_pool2d_backward", *grad_average, input, kThree, strides,
                              kOnes, false, false, std::optional<int64_t>())[0];
  }
  if (grad_maximum) {
    of_maximum =
        CallTorch<1>("aten::max_pool2d_with_indices_backward", *grad_maximum, input, kThree,
                     strides, kOnes, kOnes, false, MaxPoolOfTorch(input, stride)[1])[0];
  }
  if (grad_average && grad_maximum)
    return ChannelsLast(torch::stable::subtract(of_average, of_maximum, -1.0));
  return ChannelsLast(grad_average ? of_average : of_maximum);
}

Tensor Pool3x3BackwardCpu(const std::optional<Tensor>& grad_average,
                          const std::optional<Tensor>& grad_maximum, const Tensor& input_in,
                          int64_t stride) {
  const Pool3x3Shape shape = PoolShapeOf(input_in, stride);
  STD_TORCH_CHECK(grad_average || grad_maximum, "a gradient must be given");
  for (const std::optional<Tensor>& grad : {grad_average, grad_maximum}) {
    STD_TORCH_CHECK(
        !grad ||
            (grad->dim() == 4 && grad->size(0) == shape.batch && grad->size(1) == shape.channels &&
             grad->size(2) == shape.out_height && grad->size(3) == shape.out_width &&
             grad->scalar_type() == input_in.scalar_type()),
        "a gradient must have the shape and dtype of the output");
  }
  if (input_in.scalar_type() != ScalarType::Float) {
    return Pool3x3BackwardOfTorch(grad_average, grad_maximum, input_in, stride);
  }
  const Tensor of_average = grad_average ? ChannelsLast(*grad_average) : Tensor();
  const Tensor of_maximum = grad_maximum ? ChannelsLast(*grad_maximum) : Tensor();
  const Tensor input = grad_maximum ? ChannelsLast(input_in) : input_in;
  Tensor grad_input = EmptyChannelsLast(input, shape.height, shape.width);
  Pool3x3Backward(shape, grad_average ? Data<float>(of_average) : nullptr,
                  grad_maximum ? Data<float>(of_maximum) : nullptr,
                  grad_maximum ? Data<float>(input) : nullptr,
                  static_cast<float*>(grad_input.mutable_data_ptr()));
  return grad_input;
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, CPU, m) {
  m.impl("depthwise_conv2d", TORCH_BOX(&bdp_ext::DepthwiseConv2dCpu));
  m.impl("depthwise_conv2d_backward", TORCH_BOX(&bdp_ext::DepthwiseConv2dBackwardCpu));
  m.impl("conv3x3", TORCH_BOX(&bdp_ext::Conv3x3Cpu));
  m.impl("conv3x3_backward", TORCH_BOX(&bdp_ext::Conv3x3BackwardCpu));
  m.impl("node_sum", TORCH_BOX(&bdp_ext::NodeSumCpu));
  m.impl("node_sum_backward", TORCH_BOX(&bdp_ext::NodeSumBackwardCpu));
  m.impl("norm_relu", TORCH_BOX(&bdp_ext::NormReluCpu));
  m.impl("norm_relu_backward", TORCH_BOX(&bdp_ext::NormReluBackwardCpu));
  m.impl("pool3x3", TORCH_BOX(&bdp_ext::Pool3x3Cpu));
  m.impl("pool3x3_backward", TORCH_BOX(&bdp_ext::Pool3x3BackwardCpu));
}
