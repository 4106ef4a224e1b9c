// Work for torch's threads: the one thing that kernels know of torch.

#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

namespace bdp_ext {

// How many parts to cut `work` units into: at most one a thread, none below `grain` units.
inline int64_t Parts(int64_t work, int64_t grain) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t most = work / grain + 1;
  return threads < most ? threads : most;
}

// function(part) for part in [0, parts), each on a thread of its own where there is one.
template <typename Function>
void ForEachPart(int64_t parts, const Function& function) {
  if (parts == 1) return function(0);
  torch::stable::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) function(part);
  });
}

}  // namespace bdp_ext
