// node_sum and norm_relu, backward: with g the gradient of y (0 where a ReLU stopped h),
//
//     dw_k  = sum over channels of <g h_k>
//     dx_k  = w_k rstd_k (g - <g> / n - h_k <g h_k> / n)          (w_k g if not normed)
//
// where <a> sums a over the n pixels of a channel.
//
// - products: <g> and <g (x - mean)> of a slice; kGroup inputs share a reading of g;
// - finish_products: of all pixels; the weight's gradient;
// - gradients: all dx_k, g and every input read once.
#pragma once

#include "node_sum.cuh"

namespace bdp_ext {

constexpr int kGroup = 4;  // inputs whose products a block sums

template <typename T, int kPack, int kInputs, bool kRelu>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_products_kernel(const NodeArguments node,
                             const T* __restrict__ grad,      // [n, C]
                             const float* __restrict__ mean,  // [K, C]
                             double* __restrict__ partial) {  // <g> and <g (x - mean)>
  static_assert(!kRelu || kInputs == 1, "with a ReLU each input has its own <g>");
  __shared__ float sums[kPack][kNodeThreads];
  const int before = static_cast<int>(blockIdx.z) * kInputs;
  const Place<kPack> place(node.channels);
  const int64_t slice = blockIdx.x, slices = gridDim.x;
  const int64_t begin = node.slice_begin(slice, slices), end = node.slice_begin(slice + 1, slices);
  float center[kInputs][kPack] = {}, of_grad[kPack] = {}, product[kInputs][kPack] = {};
  const T* input[kInputs];
  bool wanted[kInputs];
#pragma unroll
  for (int i = 0; i < kInputs; ++i) {
    const int k = before + i;
    wanted[i] = k < node.number && (node.summed >> k & 1) != 0;
    // Read in any case: no branch between loads.
    input[i] = wanted[i] ? static_cast<const T*>(node.input[k]) : grad;
    if (wanted[i]) {
      load_channels(mean + static_cast<int64_t>(k) * node.channels + place.first, center[i]);
    }
  }
  if (place.active()) {
#pragma unroll 2
    for (int64_t p = begin + place.row; p < end; p += place.rows) {
      const int64_t at = p * node.channels + place.first;
      float g[kPack];
      load_channels(grad + at, g);
#pragma unroll
      for (int i = 0; i < kInputs; ++i) {
        float x[kPack];
        load_channels(input[i] + at, x);
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          const float d = x[e] - center[i][e];
          if (kRelu && !(d > 0.f)) g[e] = 0.f;
          product[i][e] = fmaf(g[e], d, product[i][e]);
        }
      }
#pragma unroll
      for (int e = 0; e < kPack; ++e) of_grad[e] += g[e];
    }
  }
  sum_rows(place, sums, of_grad);
#pragma unroll
  for (int i = 0; i < kInputs; ++i) {
    if (!wanted[i]) continue;  // the same for the whole block
    sum_rows(place, sums, product[i]);
    if (place.row != 0) continue;
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      const int64_t channel = place.first + e;
      partial[partial_at(node, slice, before + i, 0) + channel] = of_grad[e];
      partial[partial_at(node, slice, before + i, 1) + channel] = product[i][e];
    }
  }
}

// dx = scale g + slope (x - mean) + offset, with scale = w rstd.
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_finish_products_kernel(const NodeArguments node, const double* __restrict__ partial,
                                    int64_t slices,
                                    const float* __restrict__ rstd,     // [K, C]
                                    float* __restrict__ slope,          // [K, C]
                                    float* __restrict__ offset,         // [K, C]
                                    float* __restrict__ grad_weight) {  // [K], null: not wanted
  __shared__ double of_warp[kNodeWarps];
  const int k = static_cast<int>(blockIdx.x);
  if ((node.summed >> k & 1) == 0) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const auto pixels = static_cast<double>(node.pixels);
  double of_weight = 0;
  for (int c = warp; c < node.channels; c += kNodeWarps) {
    double of_grad = 0, product = 0;
    for (int64_t s = lane; s < slices; s += kWarp) {
      of_grad += partial[partial_at(node, s, k, 0) + c];
      product += partial[partial_at(node, s, k, 1) + c];
    }
    of_grad = warp_sum(of_grad);
    product = warp_sum(product);
    const int64_t at = static_cast<int64_t>(k) * node.channels + c;
    const double inverse = load(rstd + at), scale = load(node.weight + k) * inverse / pixels;
    of_weight += inverse * product;
    if (lane == 0) {
      slope[at] = static_cast<float>(-scale * inverse * inverse * product);
      offset[at] = static_cast<float>(-scale * of_grad);
    }
  }
  if (grad_weight == nullptr) return;
  if (lane == 0) of_warp[warp] = of_weight;
  __syncthreads();
  if (threadIdx.x != 0) return;
  double sum = 0;
  for (int w = 0; w < kNodeWarps; ++w) sum += of_warp[w];
  grad_weight[k] = static_cast<float>(sum);
}

template <typename T, int kPack, bool kRelu>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_gradients_kernel(const NodeArguments node,
                              const T* __restrict__ grad,          // [n, C]
                              const float* __restrict__ mean,      // [K, C]
                              const float* __restrict__ rstd,      // [K, C]
                              const float* __restrict__ slope,     // [K, C]
                              const float* __restrict__ offset) {  // [K, C]
  const Place<kPack> place(node.channels);
  if (!place.active()) return;
  const Rows<kPack> rows(place, node);
  float g[kNodeRows][kPack];
#pragma unroll
  for (int r = 0; r < kNodeRows; ++r) load_channels(grad + rows.at[r], g[r]);
  for (int k = 0; k < node.number; ++k) {
    T* const to = static_cast<T*>(node.grad_input[k]);
    if (to == nullptr) continue;
    const float weight = load(node.weight + k);
    const bool normed = (node.normed >> k & 1) != 0;
    if (!normed) {
#pragma unroll
      for (int r = 0; r < kNodeRows; ++r) {
        if (r >= rows.number) break;
        float dx[kPack];
#pragma unroll
        for (int e = 0; e < kPack; ++e) dx[e] = weight * g[r][e];
        store_channels(to + rows.at[r], dx);
      }
      continue;
    }
    const int64_t at = static_cast<int64_t>(k) * node.channels + place.first;
    float center[kPack], scale[kPack], along[kPack], base[kPack], x[kNodeRows][kPack];
    const T* const input = static_cast<const T*>(node.input[k]);
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) load_channels(input + rows.at[r], x[r]);
    load_channels(mean + at, center);
    load_channels(rstd + at, scale);
    load_channels(slope + at, along);
    load_channels(offset + at, base);
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) {
      if (r >= rows.number) break;
      float dx[kPack];
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        const float d = x[r][e] - center[e];
        const float passed = kRelu && !(d > 0.f) ? 0.f : g[r][e];
        dx[e] = fmaf(along[e], d, fmaf(weight * scale[e], passed, base[e]));
      }
      store_channels(to + rows.at[r], dx);
    }
  }
}

#if !defined(__CUDACC_RTC__)
// ---- launcher ----

template <typename T, int kPack, bool kRelu>
cudaError_t launch_node_gradients(const NodeArguments& node, const float* mean, const float* rstd,
                                  const T* grad, float* grad_weight, double* partial,
                                  cudaStream_t stream) {
  const NodeGrid size(node, kPack, node_slices(node.number, node.pixels, node.channels));
  const int64_t numbers = static_cast<int64_t>(node.number) * node.channels;
  float* const slope = reinterpret_cast<float*>(partial + 2 * numbers * size.slices);
  float* const offset = slope + numbers;
  if (node.summed != 0) {
    constexpr int kInputs = kRelu ? 1 : kGroup;
    const auto products = node_sum_products_kernel<T, kPack, kInputs, kRelu>;
    const dim3 grid(size.slices, size.chunks,
                    static_cast<unsigned>(ceil_div(node.number, kInputs)));
    BDP_EXT_LAUNCH(products, grid, kNodeThreads, stream, node, grad, mean, partial);
    const auto finish = node_sum_finish_products_kernel;
    BDP_EXT_LAUNCH(finish, static_cast<unsigned>(node.number), kNodeThreads, stream, node, partial,
                   static_cast<int64_t>(size.slices), rstd, slope, offset, grad_weight);
  }
  bool any = false;
  for (int k = 0; k < node.number; ++k) any = any || node.grad_input[k] != nullptr;
  if (any) {
    const auto gradients = node_sum_gradients_kernel<T, kPack, kRelu>;
    const dim3 tiles(size.tiles, size.chunks);
    BDP_EXT_LAUNCH(gradients, tiles, kNodeThreads, stream, node, grad, mean, rstd, slope, offset);
  }
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_node_sum_backward(const NodeInputs<T>& node,
                                     const float* weight,  // [K]
                                     const float* mean,    // [K, C]
                                     const float* rstd,    // [K, C]
                                     const T* grad,        // [n, C]
                                     bool relu,
                                     T* const* grad_input,  // K of [n, C], null where not wanted
                                     float* grad_weight,    // [K], null if not wanted
                                     void* scratch,  // node_sum_scratch_bytes, 16-byte aligned
                                     cudaStream_t stream) {
  if (relu && node.number != 1) return cudaErrorInvalidValue;
  const auto launch =
      node_is_packed(node, grad_input, grad, {mean, rstd})
          ? (relu ? launch_node_gradients<T, 4, true> : launch_node_gradients<T, 4, false>)
          : (relu ? launch_node_gradients<T, 1, true> : launch_node_gradients<T, 1, false>);
  const bool need_weight = grad_weight != nullptr;
  return launch_nodes(
      node, weight, grad_input, need_weight, [&](const NodeArguments& some, int64_t first) {
        const int64_t at = first * node.channels;
        return launch(some, mean + at, rstd + at, grad, need_weight ? grad_weight + first : nullptr,
                      static_cast<double*>(scratch), stream);
      });
}
#endif

}  // namespace bdp_ext
