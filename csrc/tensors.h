// What the files that see tensors share.

#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <cstdint>
#include <optional>

namespace bdp_ext {

using torch::headeronly::MemoryFormat;
using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Tensor Contiguous(const Tensor& x) {
  return x.is_contiguous() ? x : torch::stable::contiguous(x);
}

inline Tensor ChannelsLast(const Tensor& x) {
  return torch::stable::contiguous(x, MemoryFormat::ChannelsLast);
}

// As `like`, but for its channels, height and width.
inline Tensor EmptyChannelsLast(const Tensor& like, int64_t channels, int64_t height,
                                int64_t width) {
  return torch::stable::empty({like.size(0), channels, height, width}, like.scalar_type(),
                              std::nullopt, std::nullopt, std::nullopt, MemoryFormat::ChannelsLast);
}

template <typename T>
const T* Data(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

template <typename T>
T* Out(const Tensor& x) {
  return static_cast<T*>(x.mutable_data_ptr());
}

}  // namespace bdp_ext
