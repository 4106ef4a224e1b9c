// Small kernels with a bug each: what the harness must find. `planted NAME` ends with status 3 (or
// ASan's) and a message; `planted clean` runs the same kernels without the bugs.
#include <string>

#include "check.h"

using namespace check;

constexpr int kThreads = 64;

// Sums 64 numbers through shared memory.
static void sum_kernel(const float* in, float* out, bool barrier) {
  __shared__ float parts[kThreads];
  parts[threadIdx.x] = in[threadIdx.x];
  if (barrier) __syncthreads();
  if (threadIdx.x == 0) {
    float sum = 0;
    for (int i = 0; i < kThreads; ++i) sum += parts[i];
    *out = sum;
  }
}

static void warp_sum_kernel(const float* in, float* out, bool barrier) {
  __shared__ float parts[kThreads];
  parts[threadIdx.x] = in[threadIdx.x];
  if (barrier) __syncwarp();
  const unsigned neighbour = threadIdx.x ^ 1u;
  out[threadIdx.x] = parts[neighbour];
}

static void tail_kernel(const float* in, float* out, int size, int past) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < size + past) out[i % size] = in[i];
}

static void mask_kernel(float* out, int size, bool right_mask) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= size) return;
  const unsigned mask = right_mask ? (1u << size) - 1 : ~0u;
  out[i] = __shfl_sync(mask, static_cast<float>(i), 0);
}

static void own_mask_kernel(float* out, unsigned mask) {
  out[threadIdx.x] = __shfl_xor_sync(mask, static_cast<float>(threadIdx.x), 1);
}

static void source_kernel(float* out, int from) {
  if (threadIdx.x >= 16) return;
  out[threadIdx.x] = __shfl_sync(0xffffu, static_cast<float>(threadIdx.x), from);
}

static void divergent_kernel(float* out, bool divergent) {
  if (divergent && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

static void stuck_kernel(float* out, bool leaves) {
  if (leaves && threadIdx.x == 5) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}

static void stuck_vote_kernel(float* out, bool some) {
  if (!some || threadIdx.x % 2 == 0) out[threadIdx.x] = __ballot_sync(~0u, true) != 0 ? 1.f : 0.f;
  __syncthreads();
}

static void unwritten_kernel(float* out, bool written) {
  __shared__ float value;
  if (written && threadIdx.x == 0) value = 1;
  __syncthreads();
  out[threadIdx.x] = value;
}

// The block that arrives last adds up what the others wrote.
static void last_block_kernel(float* parts, unsigned* arrived, float* out, bool fence) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = 1;
    if (fence) __threadfence();
    last = atomicAdd(arrived, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || threadIdx.x != 0) return;
  __threadfence();
  float sum = 0;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += parts[b];
  *out = sum;
}

static void blocks_kernel(float* out, bool same_word) {
  out[same_word ? 0 : blockIdx.x * kThreads + threadIdx.x] = 1;
}

int main(int count, char** names) {
  const std::string bug = count > 1 ? names[1] : "clean";
  const auto ok = [&](const char* name) { return bug != name; };
  Buffer<float> in(kThreads), out(4 * kThreads), parts(4), short_in(20), short_out(20);
  Buffer<unsigned> arrived(1);
  std::fill(in.begin(), in.end(), 1.f);
  std::fill(short_in.begin(), short_in.end(), 1.f);
  arrived[0] = 0;
  const auto run = [](const char* name, unsigned blocks, const std::function<void()>& body) {
    simt::launch(name, blocks, kThreads, nullptr, body);
  };
  run("sum", 1, [&] { sum_kernel(in.data(), out.data(), ok("missing_barrier")); });
  run("warp_sum", 1, [&] { warp_sum_kernel(in.data(), out.data(), ok("missing_syncwarp")); });
  run("tail", 1,
      [&] { tail_kernel(short_in.data(), short_out.data(), 20, ok("row_tail") ? 0 : 1); });
  run("mask", 1, [&] { mask_kernel(out.data(), 20, ok("missing_mask")); });
  run("own_mask", 1, [&] { own_mask_kernel(out.data(), ok("own_mask") ? ~0u : 0x0000ffffu); });
  run("source", 1, [&] { source_kernel(out.data(), ok("source_outside") ? 3 : 20); });
  run("divergent", 1, [&] { divergent_kernel(out.data(), !ok("divergent_barrier")); });
  run("stuck", 1, [&] { stuck_kernel(out.data(), !ok("stuck_barrier")); });
  run("stuck_vote", 1, [&] { stuck_vote_kernel(out.data(), !ok("stuck_vote")); });
  run("unwritten", 1, [&] { unwritten_kernel(out.data(), ok("unwritten")); });
  run("last_block", 4,
      [&] { last_block_kernel(parts.data(), arrived.data(), out.data(), ok("missing_fence")); });
  CHECK(out[0] == 4.f, "the sum over blocks is %g", out[0]);
  run("blocks", 4, [&] { blocks_kernel(out.data(), !ok("blocks_race")); });
  std::printf("%s: no bug found\n", bug.c_str());
}
