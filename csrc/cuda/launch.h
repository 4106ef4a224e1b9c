// The CUDA kernels' launchers, torch-free: raw device pointers, int64 sizes, a stream, an error
// code back. Contracts: bdp_ext/ops.py. Nothing here allocates, synchronises or looks at device
// memory, so all of it may be captured in a graph. Scratch is the caller's: as many bytes as
// `<op>_scratch_bytes` says, 16-byte aligned, any content.
//
// Instantiated in <op>.cu for T float, Half and BFloat16 (voe, node_sum: float), and for L int64_t,
// int32_t and int16_t.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "node_sum.h"
#include "types.h"

namespace bdp_ext {

template <typename T>
int64_t el2n_scratch_bytes(int64_t rows, int64_t classes);  // of el2n and of update_voe_

template <typename T>
cudaError_t launch_el2n(const T* logits,  // [B, C], rows `stride` elements apart
                        int64_t stride,
                        const int64_t* target,  // [B]
                        float* out,             // [B]
                        int64_t rows, int64_t classes, void* scratch, cudaStream_t stream);

template <typename T>
cudaError_t launch_update_voe_(float* window,  // [K, N]
                               float* voe,     // [N]
                               int64_t slots, int64_t samples, int64_t slot,
                               const int64_t* index,  // [B]
                               const T* logits,       // [B, C], rows `stride` elements apart
                               int64_t stride,
                               const int64_t* target,  // [B]
                               int64_t rows, int64_t classes, void* scratch, cudaStream_t stream);

template <typename T>
cudaError_t launch_voe(const T* window,  // [K, N], slots `stride` elements apart
                       int64_t slots, int64_t samples, int64_t stride,
                       float* out,  // [N]
                       cudaStream_t stream);

template <typename L>
int64_t capped_topk_scratch_bytes(int64_t samples, int64_t classes);

template <typename L>
cudaError_t launch_capped_topk(const float* score,  // [N]
                               const L* label,      // [N]
                               const int64_t* cap,  // [C]
                               int64_t samples, int64_t classes, int64_t k, bool largest,
                               bool* mask,      // [N], 16-byte aligned
                               int64_t* taken,  // []
                               void* scratch, cudaStream_t stream);

// The same by two stable sorts: the plain version that checks the other on a device.
template <typename L>
int64_t capped_topk_sorted_scratch_bytes(int64_t samples, int64_t classes);

template <typename L>
cudaError_t launch_capped_topk_sorted(const float* score, const L* label, const int64_t* cap,
                                      int64_t samples, int64_t classes, int64_t k, bool largest,
                                      bool* mask, int64_t* taken, void* scratch,
                                      cudaStream_t stream);

template <typename T>
int64_t node_sum_scratch_bytes(int64_t inputs, int64_t pixels, int64_t channels);

// With `relu` behind the sum: norm_relu, for one input of weight 1.
template <typename T>
cudaError_t launch_node_sum(const NodeTensors& node,
                            const T* weight,  // [K]
                            float eps, bool relu,
                            T* y,     // [n, C]
                            T* mean,  // [K, C]
                            T* rstd,  // [K, C]
                            void* scratch, cudaStream_t stream);

template <typename T>
cudaError_t launch_node_sum_backward(const NodeTensors& node,
                                     const T* weight,  // [K]
                                     const T* mean,    // [K, C]
                                     const T* rstd,    // [K, C]
                                     const T* grad,    // [n, C]
                                     bool relu,
                                     T* grad_weight,  // [K], null if not wanted
                                     void* scratch, cudaStream_t stream);

}  // namespace bdp_ext
