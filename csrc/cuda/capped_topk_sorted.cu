// capped_topk by two stable sorts of CUB: slower, and plain enough to check the other on a device.
//
// Sort by score, then stably by class: a sample's place in its class, against the cap, says whether
// it is allowed. The allowed ones counted in the order of the score, against k, say whether it is
// taken.
#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

#include "launch.h"
#include "order.cuh"

namespace bdp_ext {
namespace {

constexpr int kThreads = 256;

struct Sorted {
  uint32_t *key, *key_out;     // [N]
  int32_t *sample, *by_score;  // [N] samples; in the order of their scores
  uint32_t *of, *of_out;       // [N] classes in that order (C: none); sorted
  int32_t *place, *place_out;  // [N] places in the order of the scores; by class
  int32_t* first;              // [C + 1] where each class starts
  int32_t *allowed, *before;   // [N] 0 or 1; how many are allowed before
  void* cub;
};

__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}

__global__ void sorted_keys_kernel(const float* score, int64_t samples, bool largest, Sorted s) {
  const int64_t i = global_thread();
  if (i >= samples) return;
  s.key[i] = order_key(score[i], largest);
  s.sample[i] = static_cast<int32_t>(i);
}

template <typename L>
__global__ void sorted_classes_kernel(const L* label, int64_t samples, int classes, Sorted s) {
  const int64_t p = global_thread();
  if (p >= samples) return;
  const int c = class_of(label, s.by_score[p], classes);
  s.of[p] = static_cast<uint32_t>(c < 0 ? classes : c);
  s.place[p] = static_cast<int32_t>(p);
}

__global__ void sorted_first_kernel(int64_t samples, Sorted s) {
  const int64_t q = global_thread();
  if (q >= samples) return;
  if (q == 0 || s.of_out[q] != s.of_out[q - 1]) s.first[s.of_out[q]] = static_cast<int32_t>(q);
}

__global__ void sorted_allowed_kernel(const int64_t* cap, int64_t samples, int classes, Sorted s) {
  const int64_t q = global_thread();
  if (q >= samples) return;
  const uint32_t c = s.of_out[q];
  s.allowed[s.place_out[q]] = c < static_cast<uint32_t>(classes) && q - s.first[c] < cap[c] ? 1 : 0;
}

__global__ void sorted_mask_kernel(int64_t samples, int64_t k, Sorted s, bool* mask,
                                   int64_t* taken) {
  const int64_t p = global_thread();
  if (p >= samples) return;
  mask[s.by_score[p]] = s.allowed[p] != 0 && s.before[p] < k;
  if (p == samples - 1) {
    const int64_t total = static_cast<int64_t>(s.before[p]) + s.allowed[p];
    *taken = k < total ? k : total;
  }
}

size_t cub_bytes(int64_t samples) {
  const auto n = static_cast<int>(samples);
  size_t sort = 0, scan = 0;
  uint32_t* key = nullptr;
  int32_t* value = nullptr;
  cub::DeviceRadixSort::SortPairs(nullptr, sort, key, key, value, value, n);
  cub::DeviceScan::ExclusiveSum(nullptr, scan, value, value, n);
  return sort > scan ? sort : scan;
}

// Cuts `memory` into the parts of Sorted; returns the bytes they take.
int64_t layout(int64_t samples, int64_t classes, char* memory, Sorted* s) {
  int64_t bytes = 0;
  const auto part = [&](int64_t size) {
    char* const at = memory == nullptr ? nullptr : memory + bytes;
    bytes += ceil_div(size, 16) * 16;
    return at;
  };
  for (uint32_t** p : {&s->key, &s->key_out, &s->of, &s->of_out})
    *p = reinterpret_cast<uint32_t*>(part(samples * 4));
  for (int32_t** p :
       {&s->sample, &s->by_score, &s->place, &s->place_out, &s->allowed, &s->before}) {
    *p = reinterpret_cast<int32_t*>(part(samples * 4));
  }
  s->first = reinterpret_cast<int32_t*>(part((classes + 1) * 4));
  s->cub = part(static_cast<int64_t>(cub_bytes(samples)));
  return bytes;
}

}  // namespace

template <typename L>
int64_t capped_topk_sorted_scratch_bytes(int64_t samples, int64_t classes) {
  Sorted s;
  return layout(samples, classes, nullptr, &s);
}

template <typename L>
cudaError_t launch_capped_topk_sorted(const float* score, const L* label, const int64_t* cap,
                                      int64_t samples, int64_t classes, int64_t k, bool largest,
                                      bool* mask, int64_t* taken, void* scratch,
                                      cudaStream_t stream) {
  if (samples == 0) return cudaMemsetAsync(taken, 0, sizeof(int64_t), stream);
  if (samples >= INT32_MAX || classes >= INT32_MAX) return cudaErrorInvalidValue;
  Sorted s;
  layout(samples, classes, static_cast<char*>(scratch), &s);
  const auto blocks = static_cast<unsigned>(ceil_div(samples, kThreads));
  const auto n = static_cast<int>(samples), c = static_cast<int>(classes);
  size_t bytes = cub_bytes(samples);
  sorted_keys_kernel<<<blocks, kThreads, 0, stream>>>(score, samples, largest, s);
  cudaError_t error = cub::DeviceRadixSort::SortPairs(s.cub, bytes, s.key, s.key_out, s.sample,
                                                      s.by_score, n, 0, 32, stream);
  if (error != cudaSuccess) return error;
  sorted_classes_kernel<<<blocks, kThreads, 0, stream>>>(label, samples, c, s);
  error = cub::DeviceRadixSort::SortPairs(s.cub, bytes, s.of, s.of_out, s.place, s.place_out, n, 0,
                                          32, stream);
  if (error != cudaSuccess) return error;
  sorted_first_kernel<<<blocks, kThreads, 0, stream>>>(samples, s);
  sorted_allowed_kernel<<<blocks, kThreads, 0, stream>>>(cap, samples, c, s);
  error = cub::DeviceScan::ExclusiveSum(s.cub, bytes, s.allowed, s.before, n, stream);
  if (error != cudaSuccess) return error;
  sorted_mask_kernel<<<blocks, kThreads, 0, stream>>>(samples, k, s, mask, taken);
  return cudaGetLastError();
}

#define BDP_EXT_INSTANTIATE(L)                                                              \
  template int64_t capped_topk_sorted_scratch_bytes<L>(int64_t, int64_t);                   \
  template cudaError_t launch_capped_topk_sorted<L>(const float*, const L*, const int64_t*, \
                                                    int64_t, int64_t, int64_t, bool, bool*, \
                                                    int64_t*, void*, cudaStream_t);
BDP_EXT_INSTANTIATE(int64_t)
BDP_EXT_INSTANTIATE(int32_t)
BDP_EXT_INSTANTIATE(int16_t)

}  // namespace bdp_ext
