// The pruning operations' implementations, put into the operations that bdp_ext/ops/register.py
// defines: tensors in, raw pointers out. Whatever bdp_ext/ops/checks.py refuses is refused here
// too, in fewer words and far less time. Compiled once for each device, BDP_EXT_DEVICE.

#include <torch/csrc/stable/library.h>

#include <tuple>

#include "on_device.h"
#include "ops.h"
#include "tensors.h"

namespace bdp_ext {
namespace {

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

Tensor El2nOp(const Tensor& logits_in, const Tensor& target_in) {
  CheckRows(logits_in, target_in);
  const OnDevice device({&logits_in, &target_in});
  const Tensor logits = WithContiguousRows(logits_in);
  const Tensor target = Contiguous(target_in);
  const Logits view = LogitsOf(logits);
  Tensor score = torch::stable::new_empty(logits, {view.rows}, ScalarType::Float);
  El2n(view, Data<int64_t>(target), Out<float>(score));
  return score;
}

void UpdateVoeOp(const Tensor& window, const Tensor& voe, int64_t slot, const Tensor& index_in,
                 const Tensor& logits_in, const Tensor& target_in) {
  CheckRows(logits_in, target_in);
  CheckRows(logits_in, index_in);
  STD_TORCH_CHECK(window.dim() == 2 && voe.dim() == 1 && window.is_contiguous() &&
                      voe.is_contiguous() && window.scalar_type() == ScalarType::Float &&
                      voe.scalar_type() == ScalarType::Float && voe.numel() == window.size(1),
                  "window [K, N] and voe [N] must be contiguous float32");
  STD_TORCH_CHECK(slot >= 0 && slot < window.size(0), "slot must be in [0, K)");
  const OnDevice device({&logits_in, &target_in, &index_in, &window, &voe});
  const Tensor logits = WithContiguousRows(logits_in);
  const Tensor target = Contiguous(target_in);
  const Tensor index = Contiguous(index_in);
  const Logits view = LogitsOf(logits);
  UpdateVoe({Out<float>(window), Out<float>(voe), window.size(0), window.size(1), slot},
            Data<int64_t>(index), view, Data<int64_t>(target));
}

Tensor VoeOp(const Tensor& window_in) {
  STD_TORCH_CHECK(window_in.dim() == 2 && window_in.scalar_type() == ScalarType::Float,
                  "window must be float32 with two dimensions");
  const OnDevice device({&window_in});
  const Tensor window = WithContiguousRows(window_in);
  const int64_t samples = window.size(1);
  Tensor voe = torch::stable::new_empty(window, {samples});
  Voe(Data<float>(window), window.size(0), samples, window.stride(0), Out<float>(voe));
  return voe;
}

std::tuple<Tensor, Tensor> CappedTopkOp(const Tensor& score_in, const Tensor& label_in,
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
  const OnDevice device({&score_in, &label_in, &cap_in});
  const Tensor score = Contiguous(score_in);
  const Tensor label = Contiguous(label_in);
  const Tensor cap = Contiguous(cap_in);
  Tensor mask = torch::stable::new_empty(score, {score.numel()}, ScalarType::Bool);
  Tensor taken = torch::stable::new_empty(score, {}, ScalarType::Long);
  CappedTopk(Data<float>(score), label.const_data_ptr(),
             type == ScalarType::Long  ? LabelType::kInt64
             : type == ScalarType::Int ? LabelType::kInt32
                                       : LabelType::kInt16,
             score.numel(), Data<int64_t>(cap), cap.numel(), k, largest, Out<bool>(mask),
             Out<int64_t>(taken));
  return {mask, taken};
}

}  // namespace
}  // namespace bdp_ext

STABLE_TORCH_LIBRARY_IMPL(bdp_ext, BDP_EXT_DEVICE, m) {
  m.impl("el2n", TORCH_BOX(&bdp_ext::El2nOp));
  m.impl("update_voe_", TORCH_BOX(&bdp_ext::UpdateVoeOp));
  m.impl("voe", TORCH_BOX(&bdp_ext::VoeOp));
  m.impl("capped_topk", TORCH_BOX(&bdp_ext::CappedTopkOp));
}
