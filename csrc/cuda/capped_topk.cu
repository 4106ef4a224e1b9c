#include "capped_topk.cuh"
#include "launch.h"

namespace bdp_ext {

#define BDP_EXT_INSTANTIATE(L)                                                                \
  template int64_t capped_topk_scratch_bytes<L>(int64_t, int64_t);                            \
  template cudaError_t launch_capped_topk<L>(const float*, const L*, const int64_t*, int64_t, \
                                             int64_t, int64_t, bool, bool*, int64_t*, void*,  \
                                             cudaStream_t);
BDP_EXT_INSTANTIATE(int64_t)
BDP_EXT_INSTANTIATE(int32_t)
BDP_EXT_INSTANTIATE(int16_t)

}  // namespace bdp_ext
