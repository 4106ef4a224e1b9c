#include "cuda/run.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/device.h>
#include <torch/csrc/stable/macros.h>

#include "tensors.h"

namespace bdp_ext {

void Check(cudaError_t error) { STD_CUDA_CHECK(error); }

cudaStream_t CurrentStream() {
  int device = 0;
  Check(cudaGetDevice(&device));
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device, &stream));
  return static_cast<cudaStream_t>(stream);
}

std::shared_ptr<void> Scratch(int64_t bytes) {
  if (bytes == 0) return nullptr;
  const auto memory = std::make_shared<Tensor>(
      torch::stable::empty({bytes}, ScalarType::Byte, std::nullopt,
                           torch::stable::Device(torch::headeronly::DeviceType::CUDA)));
  return {memory, memory->mutable_data_ptr()};
}

}  // namespace bdp_ext
