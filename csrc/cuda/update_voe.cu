#include "launch.h"
#include "update_voe.cuh"

namespace bdp_ext {

#define BDP_EXT_INSTANTIATE(T)                                                                  \
  template cudaError_t launch_update_voe_<T>(float*, float*, int64_t, int64_t, int64_t,         \
                                             const int64_t*, const T*, int64_t, const int64_t*, \
                                             int64_t, int64_t, void*, cudaStream_t);
BDP_EXT_INSTANTIATE(float)
BDP_EXT_INSTANTIATE(Half)
BDP_EXT_INSTANTIATE(BFloat16)

}  // namespace bdp_ext
