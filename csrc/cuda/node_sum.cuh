// A node of a supernet: the weighted sum of its inputs, batch norms included (DARTS, Eq. 2).
//
//     y     = sum_k w_k h_k,   h_k = rstd_k (x_k - mean_k)        (mean 0 and rstd 1 if not normed)
//     dw_k  = sum over channels of <g h_k>
//     dx_k  = w_k rstd_k (g - <g> / n - h_k <g h_k> / n)          (w_k g if not normed)
//
// where <a> sums a over the n pixels of a channel. norm_relu is the sum of one input of weight 1
// with a ReLU behind, for which g is 0 where h <= 0. Forward:
//
// - moments: mean and squares of a slice of pixels, a block for each slice and input;
// - finish_moments: those of all pixels, a block an input;
// - values: y, every input read once.
//
// Backward:
//
// - products: <g> and <g (x - mean)> of a slice; kGroup inputs share a reading of g;
// - finish_products: of all pixels; the weight's gradient;
// - gradients: all dx_k, g and every input read once.
//
// Slices depend on sizes and the device only, and no sum uses an atomic: the same bits each time.
#pragma once

#include "common.cuh"
#if !defined(__CUDACC_RTC__)
#include "node_sum.h"
#endif

namespace bdp_ext {

constexpr int kNodeThreads = 256;
constexpr int kNodeWarps = kNodeThreads / kWarp;
constexpr int kNodeRows = 4;     // pixels that a thread writes, all loads in flight at once
constexpr int kGroup = 4;        // inputs whose products a block sums
constexpr int kMostInputs = 32;  // of a launch: their addresses are the kernel's argument
constexpr int kSliceBlocks = 8;  // blocks of a multiprocessor that slices are cut for
constexpr int64_t kMostSlices = 512;

struct NodeArguments {
  const float* input[kMostInputs];  // [n, C] each
  float* grad_input[kMostInputs];   // [n, C] each, null where not wanted
  const float* weight;              // [K]
  unsigned normed;                  // a bit an input
  unsigned summed;                  // ... whose products are wanted
  int number;                       // K
  int channels;                     // C
  int64_t pixels;                   // n

  __device__ __forceinline__ int64_t slice_begin(int64_t slice, int64_t slices) const {
    return pixels * slice / slices;
  }
};

// How the threads of a block lie over pixels and channels: kPack channels each, the channels of a
// pixel side by side, as in memory. blockIdx.y: which kNodeThreads columns, where there are more.
template <int kPack>
struct Place {
  int columns, rows;  // of this block
  int column, row;    // of this thread
  int64_t first;      // this thread's first channel
  __device__ __forceinline__ explicit Place(int channels) {
    const int before = static_cast<int>(blockIdx.y) * kNodeThreads;
    const int left = channels / kPack - before;
    columns = left < kNodeThreads ? left : kNodeThreads;
    rows = kNodeThreads / columns;
    row = static_cast<int>(threadIdx.x) / columns;
    column = static_cast<int>(threadIdx.x) % columns;
    first = static_cast<int64_t>(before + column) * kPack;
  }
  __device__ __forceinline__ bool active() const { return row < rows; }
};

template <int kPack>
__device__ __forceinline__ void load_channels(const float* at, float (&x)[kPack]) {
  if constexpr (kPack == 4) {
    load_pack(at, x);
  } else {
    x[0] = load(at);
  }
}

template <int kPack>
__device__ __forceinline__ void store_channels(float* at, const float (&x)[kPack]) {
  if constexpr (kPack == 4) {
    *reinterpret_cast<float4*>(at) = make_float4(x[0], x[1], x[2], x[3]);
  } else {
    at[0] = x[0];
  }
}

// The pixels that a thread writes. Past the last one it reads the last one again, so that no branch
// stands between its loads.
template <int kPack>
struct Rows {
  int64_t at[kNodeRows];  // where its channels stand
  int number;             // of real ones
  __device__ __forceinline__ Rows(const Place<kPack>& place, const NodeArguments& node)
      : number(0) {
    const int64_t first = blockIdx.x * static_cast<int64_t>(place.rows * kNodeRows) + place.row;
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) {
      const int64_t p = first + r * place.rows;
      number += p < node.pixels ? 1 : 0;
      at[r] = (p < node.pixels ? p : node.pixels - 1) * node.channels + place.first;
    }
  }
};

// Adds up each column's values; the first row's threads get the sums. All threads of the block.
template <int kPack>
__device__ __forceinline__ void sum_rows(const Place<kPack>& place, float (*sums)[kNodeThreads],
                                         float (&value)[kPack]) {
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int e = 0; e < kPack; ++e) sums[e][thread] = value[e];
  __syncthreads();
  for (int left = place.rows; left > 1;) {
    const int half = (left + 1) / 2;
    if (place.row < left - half) {
#pragma unroll
      for (int e = 0; e < kPack; ++e) sums[e][thread] += sums[e][thread + half * place.columns];
    }
    __syncthreads();
    left = half;
  }
#pragma unroll
  for (int e = 0; e < kPack; ++e) value[e] = sums[e][thread];  // its own: the next sum may begin
}

// Where a slice's two numbers of a channel stand: [slices, K, 2, C].
__device__ __forceinline__ int64_t partial_at(const NodeArguments& node, int64_t slice, int k,
                                              int value) {
  return ((slice * node.number + k) * 2 + value) * node.channels;
}

__device__ __forceinline__ double warp_sum(double x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kFullWarp, x, step);
  return x;
}

// ---- forward ----

// Shifted by the slice's first pixel: a slice of equal values has squares of exactly 0.
template <int kPack>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_moments_kernel(const NodeArguments node,
                            double* __restrict__ partial) {  // mean and squares
  __shared__ float sums[kPack][kNodeThreads];
  const int k = static_cast<int>(blockIdx.z);
  if ((node.normed >> k & 1) == 0) return;
  const Place<kPack> place(node.channels);
  const int64_t slice = blockIdx.x, slices = gridDim.x;
  const int64_t begin = node.slice_begin(slice, slices), end = node.slice_begin(slice + 1, slices);
  const float* const input = node.input[k] + place.first;
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

template <int kPack, bool kRelu>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_values_kernel(const NodeArguments node,
                           const float* __restrict__ mean,  // [K, C]
                           const float* __restrict__ rstd,  // [K, C]
                           bool add,                        // to what y holds: inputs before these
                           float* __restrict__ y) {         // [n, C]
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
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) {
      float x[kPack];
      load_channels(node.input[k] + rows.at[r], x);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        total[r][e] = fmaf(weight * scale[e], x[e] - center[e], total[r][e]);
      }
    }
  }
#pragma unroll
  for (int r = 0; r < kNodeRows; ++r) {
    if (r >= rows.number) break;
    float* const to = y + rows.at[r];
#pragma unroll
    for (int e = 0; e < kPack; ++e) {
      if (add) total[r][e] += to[e];
      if (kRelu && total[r][e] < 0.f) total[r][e] = 0.f;
    }
    store_channels(to, total[r]);
  }
}

// ---- backward ----

template <int kPack, int kInputs, bool kRelu>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_products_kernel(const NodeArguments node,
                             const float* __restrict__ grad,  // [n, C]
                             const float* __restrict__ mean,  // [K, C]
                             double* __restrict__ partial) {  // <g> and <g (x - mean)>
  static_assert(!kRelu || kInputs == 1, "with a ReLU each input has its own <g>");
  __shared__ float sums[kPack][kNodeThreads];
  const int before = static_cast<int>(blockIdx.z) * kInputs;
  const Place<kPack> place(node.channels);
  const int64_t slice = blockIdx.x, slices = gridDim.x;
  const int64_t begin = node.slice_begin(slice, slices), end = node.slice_begin(slice + 1, slices);
  float center[kInputs][kPack] = {}, of_grad[kPack] = {}, product[kInputs][kPack] = {};
  const float* input[kInputs];
  bool wanted[kInputs];
#pragma unroll
  for (int i = 0; i < kInputs; ++i) {
    const int k = before + i;
    wanted[i] = k < node.number && (node.summed >> k & 1) != 0;
    input[i] = wanted[i] ? node.input[k] : grad;  // read in any case: no branch between loads
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

template <int kPack, bool kRelu>
__global__ void __launch_bounds__(kNodeThreads, 1)
    node_sum_gradients_kernel(const NodeArguments node,
                              const float* __restrict__ grad,      // [n, C]
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
    float* const to = node.grad_input[k];
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
#pragma unroll
    for (int r = 0; r < kNodeRows; ++r) load_channels(node.input[k] + rows.at[r], x[r]);
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
// ---- launchers ----

inline int64_t node_slices(int64_t number, int64_t pixels, int64_t channels) {
  const int64_t rows = ceil_div(kNodeThreads, channels);  // pixels of a block at once, about
  const int64_t wanted = ceil_div(int64_t{kSliceBlocks} * multiprocessors(), number);
  const int64_t most = ceil_div(pixels, 16 * rows);
  const int64_t slices = wanted < most ? wanted : most;
  return slices < 1 ? 1 : slices > kMostSlices ? kMostSlices : slices;
}

// [slices, K, 2, C] float64 and, for backward, slope and offset [K, C].
template <typename T>
int64_t node_sum_scratch_bytes(int64_t number, int64_t pixels, int64_t channels) {
  const int64_t together = number < kMostInputs ? number : kMostInputs;
  return together * channels * (16 * node_slices(together, pixels, channels) + 8);
}

// The inputs from `first` on that fit one launch; whether 4 channels are read at once.
inline NodeArguments node_arguments(const NodeTensors& node, const float* weight, int64_t first,
                                    bool need_weight, bool* packed) {
  NodeArguments some = {};
  const int64_t left = node.number - first;
  some.number = static_cast<int>(left < kMostInputs ? left : kMostInputs);
  some.channels = static_cast<int>(node.channels);
  some.pixels = node.pixels;
  some.weight = weight + first;
  for (int k = 0; k < some.number; ++k) {
    const unsigned bit = 1u << k;
    some.input[k] = node.input[first + k];
    some.grad_input[k] = node.grad_input == nullptr ? nullptr : node.grad_input[first + k];
    if (node.normed[first + k]) some.normed |= bit;
    if (need_weight || (node.normed[first + k] && some.grad_input[k] != nullptr)) {
      some.summed |= bit;
    }
    *packed = *packed && reinterpret_cast<uintptr_t>(some.input[k]) % 16 == 0 &&
              reinterpret_cast<uintptr_t>(some.grad_input[k]) % 16 == 0;
  }
  return some;
}

struct NodeGrid {
  NodeGrid(const NodeArguments& node, int pack, int64_t number_of_slices)
      : slices(static_cast<unsigned>(number_of_slices)) {
    const int columns = node.channels / pack;
    chunks = static_cast<unsigned>(ceil_div(columns, kNodeThreads));
    // The last chunk has fewer columns and more rows a block: its last blocks find no pixel left.
    const int64_t rows = kNodeThreads / (columns < kNodeThreads ? columns : kNodeThreads);
    tiles = static_cast<unsigned>(ceil_div(node.pixels, rows * kNodeRows));
  }
  unsigned slices, chunks, tiles;
};

template <int kPack, bool kRelu>
cudaError_t launch_node_values(const NodeArguments& node, float eps, bool add, float* y,
                               float* mean, float* rstd, double* partial, cudaStream_t stream) {
  const NodeGrid size(node, kPack, node_slices(node.number, node.pixels, node.channels));
  if (node.normed != 0) {
    const auto moments = node_sum_moments_kernel<kPack>;
    const dim3 grid(size.slices, size.chunks, static_cast<unsigned>(node.number));
    BDP_EXT_LAUNCH(moments, grid, kNodeThreads, stream, node, partial);
  }
  const auto finish = node_sum_finish_moments_kernel;
  BDP_EXT_LAUNCH(finish, static_cast<unsigned>(node.number), kNodeThreads, stream, node, partial,
                 static_cast<int64_t>(size.slices), static_cast<double>(eps), mean, rstd);
  const auto values = node_sum_values_kernel<kPack, kRelu>;
  const dim3 tiles(size.tiles, size.chunks);
  BDP_EXT_LAUNCH(values, tiles, kNodeThreads, stream, node, mean, rstd, add, y);
  return cudaGetLastError();
}

template <int kPack, bool kRelu>
cudaError_t launch_node_gradients(const NodeArguments& node, const float* mean, const float* rstd,
                                  const float* grad, float* grad_weight, double* partial,
                                  cudaStream_t stream) {
  const NodeGrid size(node, kPack, node_slices(node.number, node.pixels, node.channels));
  const int64_t numbers = static_cast<int64_t>(node.number) * node.channels;
  float* const slope = reinterpret_cast<float*>(partial + 2 * numbers * size.slices);
  float* const offset = slope + numbers;
  if (node.summed != 0) {
    constexpr int kInputs = kRelu ? 1 : kGroup;
    const auto products = node_sum_products_kernel<kPack, kInputs, kRelu>;
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
    const auto gradients = node_sum_gradients_kernel<kPack, kRelu>;
    const dim3 tiles(size.tiles, size.chunks);
    BDP_EXT_LAUNCH(gradients, tiles, kNodeThreads, stream, node, grad, mean, rstd, slope, offset);
  }
  return cudaGetLastError();
}

inline bool node_is_too_large(const NodeTensors& node) {
  return node.channels > INT32_MAX / 2 || node.pixels > INT32_MAX ||
         ceil_div(node.channels, kNodeThreads) > 65535;
}

template <typename T>
cudaError_t launch_node_sum(const NodeTensors& node,
                            const T* weight,  // [K]
                            float eps, bool relu,
                            T* y,           // [n, C]
                            T* mean,        // [K, C]
                            T* rstd,        // [K, C]
                            void* scratch,  // node_sum_scratch_bytes, 16-byte aligned
                            cudaStream_t stream) {
  static_assert(sizeof(T) == 4, "float32");
  if (node_is_too_large(node) || (relu && node.number != 1)) return cudaErrorInvalidValue;
  auto* const partial = static_cast<double*>(scratch);
  for (int64_t first = 0; first < node.number; first += kMostInputs) {
    float* const mean_of = mean + first * node.channels;
    float* const rstd_of = rstd + first * node.channels;
    bool packed = node.channels % 4 == 0 && reinterpret_cast<uintptr_t>(y) % 16 == 0 &&
                  reinterpret_cast<uintptr_t>(mean_of) % 16 == 0 &&
                  reinterpret_cast<uintptr_t>(rstd_of) % 16 == 0;
    const NodeArguments some = node_arguments(node, weight, first, false, &packed);
    const auto launch = packed
                            ? (relu ? launch_node_values<4, true> : launch_node_values<4, false>)
                            : (relu ? launch_node_values<1, true> : launch_node_values<1, false>);
    const cudaError_t error = launch(some, eps, first > 0, y, mean_of, rstd_of, partial, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

template <typename T>
cudaError_t launch_node_sum_backward(const NodeTensors& node,
                                     const T* weight,  // [K]
                                     const T* mean,    // [K, C]
                                     const T* rstd,    // [K, C]
                                     const T* grad,    // [n, C]
                                     bool relu,
                                     T* grad_weight,  // [K], null if not wanted
                                     void* scratch,   // as above
                                     cudaStream_t stream) {
  static_assert(sizeof(T) == 4, "float32");
  if (node_is_too_large(node) || (relu && node.number != 1)) return cudaErrorInvalidValue;
  auto* const partial = static_cast<double*>(scratch);
  for (int64_t first = 0; first < node.number; first += kMostInputs) {
    const float* const mean_of = mean + first * node.channels;
    const float* const rstd_of = rstd + first * node.channels;
    bool packed = node.channels % 4 == 0 && reinterpret_cast<uintptr_t>(grad) % 16 == 0 &&
                  reinterpret_cast<uintptr_t>(mean_of) % 16 == 0 &&
                  reinterpret_cast<uintptr_t>(rstd_of) % 16 == 0;
    const NodeArguments some = node_arguments(node, weight, first, grad_weight != nullptr, &packed);
    const auto launch =
        packed ? (relu ? launch_node_gradients<4, true> : launch_node_gradients<4, false>)
               : (relu ? launch_node_gradients<1, true> : launch_node_gradients<1, false>);
    const cudaError_t error =
        launch(some, mean_of, rstd_of, grad, grad_weight == nullptr ? nullptr : grad_weight + first,
               partial, stream);
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}
#endif

}  // namespace bdp_ext
