#include "el2n.cuh"
#include "launch.h"

namespace bdp_ext {

#define BDP_EXT_INSTANTIATE(T)                                                                     \
  template int64_t el2n_scratch_bytes<T>(int64_t, int64_t);                                        \
  template cudaError_t launch_el2n<T>(const T*, int64_t, const int64_t*, float*, int64_t, int64_t, \
                                      void*, cudaStream_t);
BDP_EXT_INSTANTIATE(float)
BDP_EXT_INSTANTIATE(Half)
BDP_EXT_INSTANTIATE(BFloat16)

}  // namespace bdp_ext
