// Convolutions on the CPU, float32 and what there is code for: see register.cpp. All else is
// torch's before it comes here (bdp_ext/ops/functions.py).

#include <torch/csrc/stable/library.h>

#include <tuple>

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
  const DepthwiseConv2dShape shape = {input.size(0),
                                      input.size(1),
                                      height,
                                      width,
                                      (height + rest) / stride + 1,
                                      (width + rest) / stride + 1,
                                      kernel,
                                      stride,
                                      padding,
                                      dilation};
  STD_TORCH_CHECK(
      HasDepthwiseConv2d(shape) && input.scalar_type() == ScalarType::Float &&
          weight.scalar_type() == ScalarType::Float,
      "there is code for float32, kernels of 3 and 5, strides and dilations of 1 and 2");
  return shape;
}

Tensor DepthwiseConv2dCpu(const Tensor& input_in, const Tensor& weight_in, int64_t stride,
                          int64_t padding, int64_t dilation) {
  const DepthwiseConv2dShape shape = ShapeOf(input_in, weight_in, stride, padding, dilation);
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
  const Conv3x3Shape shape = {input.size(0), input.size(1), weight.size(0), input.size(2),
                              input.size(3)};
  STD_TORCH_CHECK(HasConv3x3(shape) && input.scalar_type() == ScalarType::Float,
                  "there is code for float32 and channels in multiples of 16, not too many");
  return shape;
}

template <typename T>
Conv3x3WeightAt<T> At(T* data, const Tensor& weight) {
  return {data, weight.stride(0), weight.stride(1), weight.stride(2), weight.stride(3)};
}

Tensor Conv3x3Cpu(const Tensor& input_in, const Tensor& weight) {
  const Conv3x3Shape shape = Conv3x3ShapeOf(input_in, weight);
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
