// What DLPack says of how a tensor is seen from C: https://dmlc.github.io/dlpack, version 1.2 and
// later of major version 1. torch's copy of the header cannot be included beside the stable ABI.

#pragma once

#include <cstdint>

namespace bdp_ext::dlpack {

constexpr int32_t kCpu = 1;
constexpr uint8_t kInt = 0, kFloat = 2, kBfloat = 4;

struct Tensor {
  void* data;
  int32_t device, device_id;
  int32_t ndim;
  uint8_t type, bits;
  uint16_t lanes;
  int64_t* shape;
  int64_t* strides;  // in elements
  uint64_t byte_offset;
};

// The capsule "dlpack_exchange_api" in Tensor.__dlpack_c_exchange_api__; it lives as long as torch.
struct ExchangeApi {
  uint32_t major, minor;
  ExchangeApi* older;
  void *allocate, *own, *give;
  int (*view)(void* py_object, Tensor* view);  // borrowed; 0, or -1 and a Python error; may be null
  void* stream;
};

}  // namespace bdp_ext::dlpack
