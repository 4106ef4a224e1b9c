// Convolutions on the CPU: see register.cpp.

#include <torch/csrc/stable/library.h>

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "ops.h"
#include "tensors.h"

namespace bdp_ext {
namespace {

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

// Where there is no code of ours.
Tensor TorchConvolution(const Tensor& input, const Tensor& weight, int64_t stride, int64_t padding,
                        int64_t dilation, int64_t groups) {
  const std::vector<int64_t> strides(2, stride), paddings(2, padding), dilations(2, dilation);
  return ChannelsLast(CallTorch<1>("aten::convolution", input, weight, std::optional<Tensor>(),
                                   strides, paddings, dilations, false, std::vector<int64_t>(2, 0),
                                   groups)[0]);
}

std::tuple<Tensor, Tensor> TorchConvolutionBackward(const Tensor& grad, const Tensor& input,
                                                    const Tensor& weight, int64_t stride,
                                                    int64_t padding, int64_t dilation,
                                                    int64_t groups, bool need_input,
                                                    bool need_weight) {
  const std::vector<int64_t> strides(2, stride), paddings(2, padding), dilations(2, dilation);
  const std::array<bool, 3> wanted = {need_input, need_weight, false};
  const auto [grad_input, grad_weight, of_no_bias] = CallTorch<3>(
      "aten::convolution_backward", grad, input, weight, std::optional<std::vector<int64_t>>(),
      strides, paddings, dilations, false, std::vector<int64_t>(2, 0), groups,
      torch::headeronly::HeaderOnlyArrayRef<bool>(wanted));
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
  Tensor output = EmptyChannelsLast(input, shape.channels, shape.out_height, shape.out_width);
  DepthwiseConv2d(shape, Data<float>(input), Data<float>(weight), Out<float>(output));
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
  Tensor grad_input =
      need_input ? EmptyChannelsLast(input, shape.channels, shape.height, shape.width) : none;
  Tensor grad_weight = need_weight ? torch::stable::new_empty(weight, weight.sizes()) : none;
  DepthwiseConv2dBackward(shape, Data<float>(grad), Data<float>(input), Data<float>(weight),
                          need_input ? Out<float>(grad_input) : nullptr,
                          need_weight ? Out<float>(grad_weight) : nullptr);
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

Tensor Conv3x3Cpu(const Tensor& input_in, const Tensor& weight) {
  const Conv3x3Shape shape = Conv3x3ShapeOf(input_in, weight);
  if (!IsOurs(shape, input_in)) return TorchConvolution(input_in, weight, 1, 1, 1, 1);
  const Tensor input = ChannelsLast(input_in);
  Tensor output = EmptyChannelsLast(input, shape.out_channels, shape.height, shape.width);
  Conv3x3(shape, Data<float>(input), At(Data<float>(weight), weight), Out<float>(output));
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
    grad_input = EmptyChannelsLast(grad, shape.in_channels, shape.height, shape.width);
    Conv3x3InputGradient(shape, Data<float>(grad), At(Data<float>(weight), weight),
                         Out<float>(grad_input));
  }
  if (need_weight) {
    const Tensor input = ChannelsLast(input_in);
    grad_weight = torch::stable::empty_like(weight);
    Conv3x3WeightGradient(shape, Data<float>(grad), Data<float>(input),
                          At(Out<float>(grad_weight), grad_weight));
  }
  return {grad_input, grad_weight};
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, CPU, m) {
  m.impl("depthwise_conv2d", TORCH_BOX(&bdp_ext::DepthwiseConv2dCpu));
  m.impl("depthwise_conv2d_backward", TORCH_BOX(&bdp_ext::DepthwiseConv2dBackwardCpu));
  m.impl("conv3x3", TORCH_BOX(&bdp_ext::Conv3x3Cpu));
  m.impl("conv3x3_backward", TORCH_BOX(&bdp_ext::Conv3x3BackwardCpu));
}
