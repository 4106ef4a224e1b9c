// Pools on the CPU: see register.cpp.

#include <torch/csrc/stable/library.h>

#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "ops.h"
#include "tensors.h"

namespace bdp_ext {
namespace {

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
  if (average)
    averages = EmptyChannelsLast(input, shape.channels, shape.out_height, shape.out_width);
  if (maximum) maxima = EmptyChannelsLast(input, shape.channels, shape.out_height, shape.out_width);
  Pool3x3(shape, Data<float>(input), average ? Out<float>(averages) : nullptr,
          maximum ? Out<float>(maxima) : nullptr);
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
  Tensor grad_input = EmptyChannelsLast(input, shape.channels, shape.height, shape.width);
  Pool3x3Backward(shape, grad_average ? Data<float>(of_average) : nullptr,
                  grad_maximum ? Data<float>(of_maximum) : nullptr,
                  grad_maximum ? Data<float>(input) : nullptr, Out<float>(grad_input));
  return grad_input;
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, CPU, m) {
  m.impl("pool3x3", TORCH_BOX(&bdp_ext::Pool3x3Cpu));
  m.impl("pool3x3_backward", TORCH_BOX(&bdp_ext::Pool3x3BackwardCpu));
}
