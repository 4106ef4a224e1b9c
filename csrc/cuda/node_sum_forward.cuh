// node_sum and norm_relu, forward:
//
//     y = sum_k w_k h_k,   h_k = rstd_k (x_k - mean_k)
//
// - moments: mean and squares of a slice of pixels, a block for each slice and input;
// - finish_moments: those of all pixels, a block an input;
// - values: y, every input read once.
#pragma once

#include "node_sum.cuh"

namespace bdp_ext {

// Shifted by the slice's first pixel: a slice of equal values has squares of exactly 0.
template <typename T, int kPack>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_moments_kernel(const NodeArguments node,
                            double* __restrict__ partial) {  // mean and squares
  __shared__ float sums[kPack][kNodeThreads];
  const int k = static_cast<int>(blockIdx.z);
  if ((node.normed >> k & 1) == 0) return;
  const Place<kPack> place(node.channels);
  const int64_t slice = blockIdx.x, slices = gridDim.x;
  const int64_t begin = node.slice_begin(slice, slices), end = node.slice_begin(slice + 1, slices);
  const T* const input = static_cast<const T*>(node.input[k]) + place.first;
  float shift[kPack], sum[kPack] = {}, square[kPack] = {};
  load_channels(input + begin * node.channels, shift);
  if (place.active()) {
#pragma unroll 4
    for (int64_t p = begin + place.row; p < end; p += place.rows) {
      float x[kPack];
      load_channels(input + p * node.channels, x);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        const float d = x[e] - shift[e];
        sum[e] += d;
        square[e] = fmaf(d, d, square[e]);
      }
    }
  }
  sum_rows(place, sums, sum);
  sum_rows(place, sums, square);
  if (place.row != 0) return;
  const auto pixels = static_cast<double>(end - begin);
#pragma unroll
  for (int e = 0; e < kPack; ++e) {
    const double away = sum[e] / pixels;
    const int64_t channel = place.first + e;
    partial[partial_at(node, slice, k, 0) + channel] = shift[e] + away;
    partial[partial_at(node, slice, k, 1) + channel] = square[e] - sum[e] * away;
  }
}

__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_finish_moments_kernel(const NodeArguments node, const double* __restrict__ partial,
                                   int64_t slices, double eps,
                                   float* __restrict__ mean,    // [K, C]
                                   float* __restrict__ rstd) {  // [K, C]
  const int k = static_cast<int>(blockIdx.x);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool normed = (node.normed >> k & 1) != 0;
  const auto pixels = static_cast<double>(node.pixels);
  for (int c = static_cast<int>(threadIdx.x) / kWarp; c < node.channels; c += kNodeWarps) {
    double center = 0, variance = 1 - eps;
    if (normed) {
      double sum = 0, squares = 0;
      for (int64_t s = lane; s < slices; s += kWarp) {
        const int64_t count = node.slice_begin(s + 1, slices) - node.slice_begin(s, slices);
        sum += static_cast<double>(count) * partial[partial_at(node, s, k, 0) + c];
      }
      center = warp_sum(sum) / pixels;
      for (int64_t s = lane; s < slices; s += kWarp) {
        const int64_t count = node.slice_begin(s + 1, slices) - node.slice_begin(s, slices);
        const double away = partial[partial_at(node, s, k, 0) + c] - center;
        squares +=
            partial[partial_at(node, s, k, 1) + c] + static_cast<double>(count) * away * away;
      }
      variance = warp_sum(squares) / pixels;
    }
    if (lane == 0) {
      const int64_t at = static_cast<int64_t>(k) * node.channels + c;
      mean[at] = static_cast<float>(center);
      rstd[at] = static_cast<float>(1.0 / sqrt((variance > 0 ? variance : 0) + eps));
    }
  }
}

template <typename T, int kPack, bool kRelu>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_values_kernel(const NodeArguments node,
                           const float* __restrict__ mean,  // [K, C]
                           const float* __restrict__ rstd,  // [K, C]
                           bool add,                        // to what y holds: inputs before these
                           T* __restrict__ y) {             // [n, C]
  const Place<kPack> place(node.channels);
  if (!place.active()) return;
  const Rows<kPack> rows(place, node);
  float total[kNodeRows][kPack] = {};
  for (int k = 0; k < node.number; ++k) {
    const int64_t at = static_cast<int64_t>(k) * node.channels + place.first;
    const float weight = load(node.weight + k);
    float center[kPack], scale[kPack];
    load_channels(mean + at, center);
    load_channels(rstd + at, scale);
    const T* const input = static_cast<const T*>(node.input[k]);
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) {
      float x[kPack];
      load_channels(input + rows.at[r], x);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        total[r][e] = fmaf(weight * scale[e], x[e] - center[e], total[r][e]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kNodeRows; ++r) {
    if (r >= rows.number) break;
    T* const to = y + rows.at[r];
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      if (add) total[r][e] += to_float(to[e]);
      if (kRelu && total[r][e] < 0.f) total[r][e] = 0.f;
    }
    store_channels(to, total[r]);
  }
}

#if !defined(__CUDACC_RTC__)
// ---- launcher ----

template <typename T, int kPack, bool kRelu>
cudaError_t launch_node_values(const NodeArguments& node, float eps, bool add, T* y, float* mean,
                               float* rstd, double* partial, cudaStream_t stream) {
  const NodeGrid size(node, kPack, node_slices(node.number, node.pixels, node.channels));
  if (node.normed != 0) {
    const auto moments = node_sum_moments_kernel<T, kPack>;
    const dim3 grid(size.slices, size.chunks, static_cast<unsigned>(node.number));
    BDP_EXT_LAUNCH(moments, grid, kNodeThreads, stream, node, partial);
  }
  const auto finish = node_sum_finish_moments_kernel;
  BDP_EXT_LAUNCH(finish, static_cast<unsigned>(node.number), kNodeThreads, stream, node, partial,
                 static_cast<int64_t>(size.slices), static_cast<double>(eps), mean, rstd);
  const auto values = node_sum_values_kernel<T, kPack, kRelu>;
  const dim3 tiles(size.tiles, size.chunks);
  BDP_EXT_LAUNCH(values, tiles, kNodeThreads, stream, node, mean, rstd, add, y);
  return cudaGetLastError();
}

template <typename T>
cudaError_t launch_node_sum(const NodeInputs<T>& node,
                            const float* weight,  // [K]
                            float eps, bool relu,
                            T* y,           // [n, C]
                            float* mean,    // [K, C]
                            float* rstd,    // [K, C]
                            void* scratch,  // node_sum_scratch_bytes, 16-byte aligned
                            cudaStream_t stream) {
  if (relu && node.number != 1) return cudaErrorInvalidValue;
  T* const* const no_gradients = nullptr;
  const auto launch =
      node_is_packed(node, no_gradients, y, {mean, rstd})
          ? (relu ? launch_node_values<T, 4, true> : launch_node_values<T, 4, false>)
          : (relu ? launch_node_values<T, 1, true> : launch_node_values<T, 1, false>);
  return launch_nodes(node, weight, no_gradients, false,
                      [&](const NodeArguments& some, int64_t first) {
                        const int64_t at = first * node.channels;
                        return launch(some, eps, first > 0, y, mean + at, rstd + at,
                                      static_cast<double*>(scratch), stream);
                      });
}
#endif

}  // namespace bdp_ext
