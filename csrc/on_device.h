// The device of a call's tensors. register*.cpp is compiled for the CPU and, with USE_CUDA, for
// CUDA.

#pragma once

#include <initializer_list>

#include "tensors.h"

#ifdef USE_CUDA
#include <torch/csrc/stable/accelerator.h>
#endif

namespace bdp_ext {

#ifdef USE_CUDA
// The tensors' device becomes the current one for the length of a call.
class OnDevice {
 public:
  explicit OnDevice(std::initializer_list<const Tensor*> tensors)
      : device_((*tensors.begin())->get_device_index()), guard_(device_) {
    for (const Tensor* tensor : tensors) Check(*tensor);
  }
  void Check(const Tensor& tensor) const {
    STD_TORCH_CHECK(tensor.is_cuda() && tensor.get_device_index() == device_,
                    "all tensors must be on the same CUDA device");
  }

 private:
  torch::stable::accelerator::DeviceIndex device_;
  torch::stable::accelerator::DeviceGuard guard_;
};
#else
// There is one, and the dispatcher calls nothing here with tensors of another.
struct OnDevice {
  explicit OnDevice(std::initializer_list<const Tensor*>) {}
  void Check(const Tensor&) const {}
};
#endif

}  // namespace bdp_ext
