// The CUDA implementations, put into the operations that bdp_ext/_register.py defines: tensors in,
// raw pointers out. Whatever bdp_ext/_checks.py refuses is refused here too, in fewer words and far
// less time. Everything runs on the current stream of the tensors' device and nothing waits for it.

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/macros.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <initializer_list>
#include <tuple>

#include "launch.h"

namespace bdp_ext {
namespace {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// The tensors' device becomes the current one for the length of a call.
class OnDevice {
 public:
  explicit OnDevice(std::initializer_list<const Tensor*> tensors)
      : device_((*tensors.begin())->get_device_index()), guard_(device_) {
    for (const Tensor* tensor : tensors) {
      STD_TORCH_CHECK(tensor->is_cuda() && tensor->get_device_index() == device_,
                      "all tensors must be on the same CUDA device");
    }
  }
  cudaStream_t stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    return static_cast<cudaStream_t>(stream);
  }

 private:
  torch::stable::accelerator::DeviceIndex device_;
  torch::stable::accelerator::DeviceGuard guard_;
};

Tensor Contiguous(const Tensor& x) { return x.is_contiguous() ? x : torch::stable::contiguous(x); }

// Rows may lie apart, their elements may not.
Tensor WithContiguousRows(const Tensor& x) {
  return x.size(1) <= 1 || x.stride(1) == 1 ? x : torch::stable::contiguous(x);
}

// Of torch's allocator: known to the stream, and to a graph that is being captured.
Tensor Scratch(const Tensor& like, int64_t bytes) {
  return torch::stable::new_empty(like, {bytes}, ScalarType::Byte);
}

template <typename T>
const T* Data(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

template <typename T>
T* Out(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

// Calls `launch` with a null pointer of the logits' type.
template <typename Launch>
cudaError_t ByLogitType(const Tensor& logits, const Launch& launch) {
  switch (logits.scalar_type()) {
    case ScalarType::Float:
      return launch(static_cast<const float*>(nullptr));
    case ScalarType::Half:
      return launch(static_cast<const Half*>(nullptr));
    case ScalarType::BFloat16:
      return launch(static_cast<const BFloat16*>(nullptr));
    default:
      STD_TORCH_CHECK(false, "logits must be float32, float16 or bfloat16");
  }
}

template <typename Launch>
cudaError_t ByLabelType(const Tensor& label, const Launch& launch) {
  switch (label.scalar_type()) {
    case ScalarType::Long:
      return launch(static_cast<const int64_t*>(nullptr));
    case ScalarType::Int:
      return launch(static_cast<const int32_t*>(nullptr));
    case ScalarType::Short:
      return launch(static_cast<const int16_t*>(nullptr));
    default:
      STD_TORCH_CHECK(false, "label must be int64, int32 or int16");
  }
}

void CheckRows(const Tensor& logits, const Tensor& per_row) {
  STD_TORCH_CHECK(logits.dim() == 2, "logits must have two dimensions");
  STD_TORCH_CHECK(per_row.scalar_type() == ScalarType::Long && per_row.dim() == 1 &&
                      per_row.size(0) == logits.size(0),
                  "target and index must be int64, one entry per row of logits");
}

Tensor El2nCuda(const Tensor& logits_in, const Tensor& target_in) {
  CheckRows(logits_in, target_in);
  const OnDevice device({&logits_in, &target_in});
  const Tensor logits = WithContiguousRows(logits_in), target = Contiguous(target_in);
  const int64_t rows = logits.size(0), classes = logits.size(1);
  Tensor score = torch::stable::new_empty(logits, {rows}, ScalarType::Float);
  if (rows == 0) return score;
  STD_CUDA_CHECK(ByLogitType(logits, [&](auto* type) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
    const Tensor scratch = Scratch(logits, el2n_scratch_bytes<T>(rows, classes));
    return launch_el2n(Data<T>(logits), logits.stride(0), Data<int64_t>(target), Out<float>(score),
                       rows, classes, scratch.mutable_data_ptr(), device.stream());
  }));
  return score;
}

void UpdateVoeCuda(const Tensor& window, const Tensor& voe, int64_t slot, const Tensor& index_in,
                   const Tensor& logits_in, const Tensor& target_in) {
  CheckRows(logits_in, target_in);
  CheckRows(logits_in, index_in);
  STD_TORCH_CHECK(window.dim() == 2 && voe.dim() == 1 && window.is_contiguous() &&
                      voe.is_contiguous() && window.scalar_type() == ScalarType::Float &&
                      voe.scalar_type() == ScalarType::Float && voe.numel() == window.size(1),
                  "window [K, N] and voe [N] must be contiguous float32");
  STD_TORCH_CHECK(slot >= 0 && slot < window.size(0), "slot must be in [0, K)");
  const OnDevice device({&logits_in, &target_in, &index_in, &window, &voe});
  const Tensor logits = WithContiguousRows(logits_in), target = Contiguous(target_in),
               index = Contiguous(index_in);
  const int64_t rows = logits.size(0), classes = logits.size(1);
  if (rows == 0 || window.size(1) == 0) return;
  STD_CUDA_CHECK(ByLogitType(logits, [&](auto* type) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
    const Tensor scratch = Scratch(logits, el2n_scratch_bytes<T>(rows, classes));
    return launch_update_voe_(Out<float>(window), Out<float>(voe), window.size(0), window.size(1),
                              slot, Data<int64_t>(index), Data<T>(logits), logits.stride(0),
                              Data<int64_t>(target), rows, classes, scratch.mutable_data_ptr(),
                              device.stream());
  }));
}

Tensor VoeCuda(const Tensor& window_in) {
  STD_TORCH_CHECK(window_in.dim() == 2 && window_in.scalar_type() == ScalarType::Float,
                  "window must be float32 with two dimensions");
  const OnDevice device({&window_in});
  const Tensor window = WithContiguousRows(window_in);
  const int64_t samples = window.size(1);
  Tensor voe = torch::stable::new_empty(window, {samples});
  if (samples == 0) return voe;
  STD_CUDA_CHECK(launch_voe(Data<float>(window), window.size(0), samples, window.stride(0),
                            Out<float>(voe), device.stream()));
  return voe;
}

// kSorted: by CUB's sorts. The plain version that checks the other one.
template <bool kSorted>
std::tuple<Tensor, Tensor> CappedTopkCuda(const Tensor& score_in, const Tensor& label_in,
                                          const Tensor& cap_in, int64_t k, bool largest) {
  STD_TORCH_CHECK(score_in.scalar_type() == ScalarType::Float && score_in.dim() == 1,
                  "score must be float32 with one dimension");
  STD_TORCH_CHECK(label_in.dim() == 1 && label_in.size(0) == score_in.size(0),
                  "label must have one entry per score");
  STD_TORCH_CHECK(cap_in.scalar_type() == ScalarType::Long && cap_in.dim() == 1,
                  "cap must be int64 with one dimension");
  STD_TORCH_CHECK(k >= 0, "k must be >= 0");
  const OnDevice device({&score_in, &label_in, &cap_in});
  const Tensor score = Contiguous(score_in), label = Contiguous(label_in), cap = Contiguous(cap_in);
  const int64_t samples = score.size(0), classes = cap.size(0);
  Tensor mask = torch::stable::new_empty(score, {samples}, ScalarType::Bool);
  Tensor taken = torch::stable::new_empty(score, {}, ScalarType::Long);
  if (samples == 0) return {mask, torch::stable::zero_(taken)};
  STD_CUDA_CHECK(ByLabelType(label, [&](auto* type) {
    using L = std::remove_const_t<std::remove_pointer_t<decltype(type)>>;
    const auto bytes = kSorted ? capped_topk_sorted_scratch_bytes<L> : capped_topk_scratch_bytes<L>;
    const auto launch = kSorted ? launch_capped_topk_sorted<L> : launch_capped_topk<L>;
    const Tensor scratch = Scratch(score, bytes(samples, classes));
    return launch(Data<float>(score), Data<L>(label), Data<int64_t>(cap), samples, classes, k,
                  largest, Out<bool>(mask), Out<int64_t>(taken), scratch.mutable_data_ptr(),
                  device.stream());
  }));
  return {mask, taken};
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, CUDA, m) {
  m.impl("el2n", TORCH_BOX(&bdp_ext::El2nCuda));
  m.impl("update_voe_", TORCH_BOX(&bdp_ext::UpdateVoeCuda));
  m.impl("voe", TORCH_BOX(&bdp_ext::VoeCuda));
  m.impl("capped_topk", TORCH_BOX(&bdp_ext::CappedTopkCuda<false>));
  // No user has this one: tests/test_cuda_gpu.py defines its schema.
  m.impl("capped_topk_sorted", TORCH_BOX(&bdp_ext::CappedTopkCuda<true>));
}
