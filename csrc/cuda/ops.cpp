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

#include <algorithm>
#include <initializer_list>
#include <memory>
#include <tuple>
#include <vector>

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
    for (const Tensor* tensor : tensors) Check(*tensor);
  }
  void Check(const Tensor& tensor) const {
    STD_TORCH_CHECK(tensor.is_cuda() && tensor.get_device_index() == device_,
                    "all tensors must be on the same CUDA device");
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

// [B, C, H, W] float32, pixel after pixel in memory: as it is, or copied.
Tensor Pixels(const Tensor& x) {
  STD_TORCH_CHECK(x.dim() == 4 && x.scalar_type() == ScalarType::Float,
                  "inputs and gradients must be float32 with four dimensions");
  return torch::stable::contiguous(x, torch::headeronly::MemoryFormat::ChannelsLast);
}

// A node's tensors, their addresses, and what is checked of them.
class Node {
 public:
  Node(const OnDevice& device, const std::vector<Tensor>& inputs, const std::vector<bool>& normed)
      : stream_(device.stream()), normed_(new bool[inputs.size()]), grad_input_(inputs.size()) {
    STD_TORCH_CHECK(!inputs.empty() && normed.size() == inputs.size(),
                    "normed must have one entry per input, and there must be one");
    const auto shape = inputs[0].sizes();
    STD_TORCH_CHECK(inputs[0].dim() == 4 && inputs[0].numel() > 0, "inputs must not be empty");
    for (const Tensor& input : inputs) {
      device.Check(input);
      tensors_.push_back(Pixels(input));
      STD_TORCH_CHECK(std::equal(shape.begin(), shape.end(), input.sizes().begin()),
                      "inputs must have the same shape");
      input_.push_back(Data<float>(tensors_.back()));
    }
    std::copy(normed.begin(), normed.end(), normed_.get());
    view_ = {input_.data(), nullptr, normed_.get(), static_cast<int64_t>(inputs.size()), 0,
             shape[1]};
    view_.pixels = inputs[0].numel() / view_.channels;
  }
  Node(const Node&) = delete;

  int64_t number() const { return view_.number; }
  int64_t channels() const { return view_.channels; }
  Tensor EmptyLike(int64_t k) const { return torch::stable::empty_like(tensors_[k]); }

  // The gradients of the inputs that need one.
  std::vector<Tensor> Gradients(const std::vector<bool>& need) {
    STD_TORCH_CHECK(need.size() == tensors_.size(), "need_inputs must have one entry per input");
    std::vector<Tensor> found;
    for (size_t k = 0; k < need.size(); ++k) {
      if (!need[k]) continue;
      found.push_back(EmptyLike(static_cast<int64_t>(k)));
      grad_input_[k] = Out<float>(found.back());
    }
    view_.grad_input = grad_input_.data();
    return found;
  }

  void Forward(const Tensor& weight, double eps, bool relu, const Tensor& y, const Tensor& mean,
               const Tensor& rstd) const {
    CheckWeight(weight);
    const Tensor scratch = MakeScratch(weight);
    STD_CUDA_CHECK(launch_node_sum(view_, Data<float>(weight), static_cast<float>(eps), relu,
                                   Out<float>(y), Out<float>(mean), Out<float>(rstd),
                                   scratch.mutable_data_ptr(), stream_));
  }

  void Backward(const Tensor& weight, const Tensor& mean, const Tensor& rstd, const Tensor& grad_in,
                bool relu, float* grad_weight) const {
    CheckWeight(weight);
    const Tensor grad = Pixels(grad_in);
    STD_TORCH_CHECK(grad.numel() == tensors_[0].numel(), "grad must have the inputs' shape");
    for (const Tensor* moment : {&mean, &rstd}) {
      STD_TORCH_CHECK(moment->scalar_type() == ScalarType::Float && moment->is_contiguous() &&
                          moment->numel() == view_.number * view_.channels,
                      "mean and rstd must be float32, contiguous, one entry per input's channel");
    }
    const Tensor scratch = MakeScratch(weight);
    STD_CUDA_CHECK(launch_node_sum_backward(view_, Data<float>(weight), Data<float>(mean),
                                            Data<float>(rstd), Data<float>(grad), relu, grad_weight,
                                            scratch.mutable_data_ptr(), stream_));
  }

 private:
  void CheckWeight(const Tensor& weight) const {
    STD_TORCH_CHECK(weight.scalar_type() == ScalarType::Float && weight.is_contiguous() &&
                        weight.numel() == view_.number,
                    "weight must be float32, one entry per input");
  }
  Tensor MakeScratch(const Tensor& like) const {
    return Scratch(like, node_sum_scratch_bytes<float>(view_.number, view_.pixels, view_.channels));
  }

  const cudaStream_t stream_;
  const std::unique_ptr<bool[]> normed_;
  std::vector<Tensor> tensors_;
  std::vector<const float*> input_;
  std::vector<float*> grad_input_;
  NodeTensors view_;
};

std::tuple<Tensor, Tensor, Tensor> NodeSumCuda(std::vector<Tensor> inputs, const Tensor& weight,
                                               std::vector<bool> normed, double eps) {
  const OnDevice device({&weight});
  const Node node(device, inputs, normed);
  const Tensor y = node.EmptyLike(0);
  const Tensor mean = torch::stable::new_empty(weight, {node.number(), node.channels()});
  const Tensor rstd = torch::stable::empty_like(mean);
  node.Forward(Contiguous(weight), eps, /*relu=*/false, y, mean, rstd);
  return {y, mean, rstd};
}

std::tuple<std::vector<Tensor>, Tensor> NodeSumBackwardCuda(
    const Tensor& grad, std::vector<Tensor> inputs, const Tensor& weight, std::vector<bool> normed,
    const Tensor& mean, const Tensor& rstd, double /*eps*/, std::vector<bool> need_inputs,
    bool need_weight) {
  const OnDevice device({&grad, &weight, &mean, &rstd});
  Node node(device, inputs, normed);
  std::vector<Tensor> of_inputs = node.Gradients(need_inputs);
  const Tensor of_weight = torch::stable::new_empty(weight, {need_weight ? node.number() : 0});
  node.Backward(Contiguous(weight), mean, rstd, grad, /*relu=*/false,
                need_weight ? Out<float>(of_weight) : nullptr);
  return {of_inputs, of_weight};
}

// norm_relu's one weight. A kernel fills it: nothing is copied from the host.
Tensor One(const Tensor& like) {
  Tensor one = torch::stable::new_empty(like, {1});
  return torch::stable::fill_(one, 1.0);
}

std::tuple<Tensor, Tensor, Tensor> NormReluCuda(const Tensor& x, double eps) {
  const OnDevice device({&x});
  const Node node(device, {x}, {true});
  const Tensor y = node.EmptyLike(0);
  const Tensor mean = torch::stable::new_empty(x, {node.channels()});
  const Tensor rstd = torch::stable::empty_like(mean);
  node.Forward(One(x), eps, /*relu=*/true, y, mean, rstd);
  return {y, mean, rstd};
}

Tensor NormReluBackwardCuda(const Tensor& grad, const Tensor& x, const Tensor& mean,
                            const Tensor& rstd, double /*eps*/) {
  const OnDevice device({&grad, &x, &mean, &rstd});
  Node node(device, {x}, {true});
  std::vector<Tensor> of_x = node.Gradients({true});
  node.Backward(One(x), mean, rstd, grad, /*relu=*/true, nullptr);
  return of_x[0];
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, CUDA, m) {
  m.impl("el2n", TORCH_BOX(&bdp_ext::El2nCuda));
  m.impl("update_voe_", TORCH_BOX(&bdp_ext::UpdateVoeCuda));
  m.impl("voe", TORCH_BOX(&bdp_ext::VoeCuda));
  m.impl("capped_topk", TORCH_BOX(&bdp_ext::CappedTopkCuda<false>));
  m.impl("node_sum", TORCH_BOX(&bdp_ext::NodeSumCuda));
  m.impl("node_sum_backward", TORCH_BOX(&bdp_ext::NodeSumBackwardCuda));
  m.impl("norm_relu", TORCH_BOX(&bdp_ext::NormReluCuda));
  m.impl("norm_relu_backward", TORCH_BOX(&bdp_ext::NormReluBackwardCuda));
  // No user has this one: tests/test_cuda_gpu.py defines its schema.
  m.impl("capped_topk_sorted", TORCH_BOX(&bdp_ext::CappedTopkCuda<true>));
}
