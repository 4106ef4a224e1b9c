// What node_sum's launchers are given, on the host. No header of torch or a toolkit.
#pragma once

#include <cstdint>

namespace bdp_ext {

struct NodeTensors {
  const float* const* input;  // K of [n, C]
  float* const* grad_input;   // K of [n, C], null where not wanted; null in forward
  const bool* normed;         // [K]
  int64_t number;             // K
  int64_t pixels;             // n
  int64_t channels;           // C
};

}  // namespace bdp_ext
