// 3x3 average and maximum pooling on the CPU: rows go to pool3x3_rows.h.

#include <vector>

#include "ops.h"

#define BDP_KERNELS "cpu/pool3x3_rows.h"
#include "cpu/for_each_isa.h"
#include "cpu/parallel.h"

namespace bdp_ext {
namespace {

constexpr int64_t kGrain = 1 << 16;  // floats of input that a thread is worth: some 20 us

struct alignas(64) Vector {
  float lanes[kMostLanes];
};

}  // namespace

void Pool3x3(const Pool3x3Shape& s, const float* input, float* average, float* maximum) {
  const auto outputs = BDP_PICK(PoolOutputs);
  const int64_t rows = s.batch * s.out_height;
  const int64_t parts = Parts(s.batch * s.height * s.width * s.channels, kGrain);
  ForEachPart(parts, [&](int64_t part) {
    outputs(s, rows * part / parts, rows * (part + 1) / parts, input, average, maximum);
  });
}

void Pool3x3Backward(const Pool3x3Shape& s, const float* grad_average, const float* grad_maximum,
                     const float* input, float* grad_input) {
  const auto inputs = BDP_PICK(PoolInputs);
  const int64_t vectors = (s.channels + kMostLanes - 1) / kMostLanes;
  const int64_t parts = Parts(s.batch * s.height * s.width * s.channels, kGrain);
  ForEachPart(parts, [&](int64_t part) {
    std::vector<Vector> scratch(9 * s.out_width * vectors);
    inputs(s, s.batch * part / parts, s.batch * (part + 1) / parts, grad_average, grad_maximum,
           input, grad_input, scratch.data()->lanes);
  });
}

}  // namespace bdp_ext
