// The operations, torch-free: raw pointers, sizes, strides in elements. Contracts:
// bdp_ext/ops/functions.py. register*.cpp hands tensors to these. cpu/<op>.cpp has them for the
// CPU, cuda/<op>.cu for the current CUDA device and its current stream; convolutions are for
// the CPU alone.

#pragma once

#include <cstdint>
#include <vector>

namespace bdp_ext {

enum class LogitType { kFloat32, kFloat16, kBFloat16 };
enum class LabelType { kInt64, kInt32, kInt16 };

struct Logits {
  const void* data;  // [B, C], rows contiguous
  LogitType type;
  int64_t rows;     // B
  int64_t classes;  // C
  int64_t row_stride;
};

void El2n(const Logits& logits,
          const int64_t* target,  // [B]
          float* score);          // [B], out

struct Ring {
  float* window;    // [K, N], contiguous
  float* voe;       // [N]
  int64_t length;   // K
  int64_t samples;  // N
  int64_t slot;
};

// The CPU throws std::out_of_range for an index >= samples, before anything is written; CUDA skips
// it.
void UpdateVoe(const Ring& ring,
               const int64_t* index,  // [B]
               const Logits& logits,
               const int64_t* target);  // [B]

void Voe(const float* window,  // [K, N], rows contiguous
         int64_t length,       // K
         int64_t samples,      // N
         int64_t row_stride,
         float* voe);  // [N], out

void CappedTopk(const float* score,  // [N]
                const void* label,   // [N]
                LabelType label_type,
                int64_t samples,     // N
                const int64_t* cap,  // [C]
                int64_t classes,     // C
                int64_t k, bool largest,
                bool* mask,       // [N], out
                int64_t* taken);  // [], out

// The gradients of a depthwise convolution, and itself. Images are channels_last.
struct DepthwiseConv2dShape {
  int64_t batch;                              // B
  int64_t channels;                           // C
  int64_t height, width;                      // H, W, of the input
  int64_t out_height, out_width;              // H', W'
  int64_t kernel, stride, padding, dilation;  // in both directions
};

// Whether there is code for this kernel, stride and dilation.
bool HasDepthwiseConv2d(const DepthwiseConv2dShape& shape);

void DepthwiseConv2d(const DepthwiseConv2dShape& shape,
                     const float* input,   // [B, H, W, C]
                     const float* weight,  // [C, kernel, kernel]
                     float* output);       // [B, H', W', C], out

// A gradient that is not wanted is null, and so may be what it alone reads: weight and input.
void DepthwiseConv2dBackward(const DepthwiseConv2dShape& shape,
                             const float* grad,    // [B, H', W', C]
                             const float* input,   // [B, H, W, C]
                             const float* weight,  // [C, kernel, kernel]
                             float* grad_input,    // [B, H, W, C], out
                             float* grad_weight);  // [C, kernel, kernel], out

// The 3x3 convolution with a padding of 1, and its gradients. Images are channels_last.
struct Conv3x3Shape {
  int64_t batch;         // B
  int64_t in_channels;   // I
  int64_t out_channels;  // O
  int64_t height, width;
};

// [O, I, 3, 3], at any strides: a channels_last network's weights lie otherwise than others'.
template <typename T>
struct Conv3x3WeightAt {
  T* data;
  int64_t out, in, y, x;  // floats from one to the next
};
using Conv3x3Weight = Conv3x3WeightAt<const float>;
using Conv3x3WeightOut = Conv3x3WeightAt<float>;

// Whether there is code for these channels: multiples of 16, not too many.
bool HasConv3x3(const Conv3x3Shape& shape);

void Conv3x3(const Conv3x3Shape& shape,
             const float* input,  // [B, H, W, I]
             const Conv3x3Weight& weight,
             float* output);  // [B, H, W, O], out

void Conv3x3InputGradient(const Conv3x3Shape& shape,
                          const float* grad,  // [B, H, W, O]
                          const Conv3x3Weight& weight,
                          float* grad_input);  // [B, H, W, I], out

void Conv3x3WeightGradient(const Conv3x3Shape& shape,
                           const float* grad,   // [B, H, W, O]
                           const float* input,  // [B, H, W, I]
                           const Conv3x3WeightOut& grad_weight);

// What a node adds up: K tensors of n pixels with C channels each, pixel after pixel. T: float; on
// CUDA also Half and BFloat16 (cuda/types.h).
template <typename T>
struct NodeInputs {
  const T* const* input;     // K of [n, C]
  std::vector<bool> normed;  // [K]
  int64_t number;            // K
  int64_t pixels;            // n
  int64_t channels;          // C
};

// With `relu` behind the sum: norm_relu, for one normed input of weight 1.
template <typename T>
void NodeSum(const NodeInputs<T>& node,
             const float* weight,  // [K]
             float eps, bool relu,
             T* y,          // [n, C], out
             float* mean,   // [K, C], out
             float* rstd);  // [K, C], out

template <typename T>
void NodeSumBackward(const NodeInputs<T>& node,
                     const float* weight,  // [K]
                     const float* mean,    // [K, C]
                     const float* rstd,    // [K, C]
                     const T* grad,        // [n, C]
                     bool relu,
                     T* const* grad_input,  // K of [n, C], out; null where not wanted
                     float* grad_weight);   // [K], out; null if not wanted

}  // namespace bdp_ext
