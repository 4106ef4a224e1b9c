// What the operations of ops.h need of torch to run on a CUDA device, without a header of torch.
// Nothing of them waits for the device, so all may be captured in a graph.
#pragma once

#include <cuda_runtime_api.h>

#include <memory>

#include "ops.h"
#include "types.h"

namespace bdp_ext {

// Of the current device: register.cpp makes the tensors' device the current one.
cudaStream_t CurrentStream();

// Memory on the current device, 16-byte aligned, any content. Torch's allocator knows the stream
// that it is used on, and a graph that is being captured. Null for no bytes.
std::shared_ptr<void> Scratch(int64_t bytes);

// Throws what went wrong.
void Check(cudaError_t error);

// Calls `run` with the address of the logits in their own type.
template <typename Run>
void ByType(const Logits& logits, const Run& run) {
  switch (logits.type) {
    case LogitType::kFloat32:
      return run(static_cast<const float*>(logits.data));
    case LogitType::kFloat16:
      return run(static_cast<const Half*>(logits.data));
    case LogitType::kBFloat16:
      return run(static_cast<const BFloat16*>(logits.data));
  }
}

}  // namespace bdp_ext
