// The scheduler of simt.h: fibers, barriers, warp votes and shuffles. Never compiled with
// -fsanitize=thread.
#include "simt.h"

#include <sys/mman.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <vector>

#include "race.h"

#if defined(SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace simt {

Options options;
long launches = 0;

namespace {

namespace ctx = boost::context::detail;
constexpr std::size_t kStack = 128 << 10;  // ASan's frames are large
constexpr int kWarp = 32;

enum class State { kReady, kBlockBarrier, kWarp, kDone };
enum class Op { kNone, kSyncWarp, kVote, kShuffle };

struct Thread {
  ctx::fcontext_t context = nullptr;
  char* stack = nullptr;
  void* fake_stack = nullptr;  // ASan's
  State state = State::kReady;
  dim3 index;
  int line = 0;  // of the last barrier, vote or shuffle
  // What it brought to the warp's meeting, and what it takes home.
  Op op = Op::kNone;
  int kind = 0;
  unsigned mask = 0;
  std::uint64_t bits = 0;
  int operand = 0, width = 32;
};

struct Block {
  const char* kernel = "";
  dim3 grid, size, index;
  std::vector<Thread> threads;
  const std::function<void()>* body = nullptr;
  int current = 0, alive = 0, at_barrier = 0;
  int barrier_line = 0;
  ctx::fcontext_t scheduler = nullptr;
  const void* main_stack = nullptr;
  std::size_t main_stack_size = 0;
  bool running = false;
} block;

std::vector<char*> stacks;  // kept from launch to launch

Thread& self() { return block.threads[static_cast<std::size_t>(block.current)]; }

const char* state_name(const Thread& t) {
  switch (t.state) {
    case State::kReady:
      return "ready";
    case State::kBlockBarrier:
      return "waits at __syncthreads";
    case State::kDone:
      return "has exited";
    case State::kWarp:
      break;
  }
  return t.op == Op::kSyncWarp ? "waits at __syncwarp"
         : t.op == Op::kVote   ? "waits at a vote"
                               : "waits at a shuffle";
}

// Runs of threads in the same state, so that the message stays short.
void describe_threads() {
  const auto& all = block.threads;
  int shown = 0;
  for (std::size_t i = 0; i < all.size() && shown < 12;) {
    std::size_t j = i + 1;
    while (j < all.size() && all[j].state == all[i].state && all[j].line == all[i].line &&
           all[j].mask == all[i].mask)
      ++j;
    std::fprintf(stderr, "[simt]   threads %zu..%zu: %s, line %d", i, j - 1, state_name(all[i]),
                 all[i].line);
    if (all[i].state == State::kWarp) std::fprintf(stderr, ", mask 0x%08x", all[i].mask);
    std::fprintf(stderr, "\n");
    i = j;
    ++shown;
  }
}

void switch_to_scheduler(bool ends) {
  Thread& t = self();
#if defined(SIMT_ASAN)
  __sanitizer_start_switch_fiber(ends ? nullptr : &t.fake_stack, block.main_stack,
                                 block.main_stack_size);
#else
  (void)ends;
#endif
  block.scheduler = ctx::jump_fcontext(block.scheduler, nullptr).fctx;
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(t.fake_stack, &block.main_stack, &block.main_stack_size);
#endif
  (void)t;
}

void fiber_main(ctx::transfer_t from) {
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &block.main_stack, &block.main_stack_size);
#endif
  block.scheduler = from.fctx;
  (*block.body)();
  self().state = State::kDone;
  const int lane = block.current % kWarp, base = block.current - lane;
  for (int i = base; i < base + kWarp && i < static_cast<int>(block.threads.size()); ++i) {
    const Thread& t = block.threads[static_cast<std::size_t>(i)];
    if (t.state == State::kWarp && (t.mask >> lane & 1u) != 0) {
      fail("line %d: mask 0x%08x of lane %d names lane %d, which is inactive: it leaves the kernel",
           t.line, t.mask, i - base, lane);
    }
  }
  --block.alive;
  switch_to_scheduler(true);
  std::abort();  // never resumed
}

void resume(int i) {
  block.current = i;
  Thread& t = self();
#if defined(SIMT_ASAN)
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, t.stack, kStack);
#endif
  t.context = ctx::jump_fcontext(t.context, nullptr).fctx;
#if defined(SIMT_ASAN)
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

void run_block(const std::vector<int>& order) {
  const int count = static_cast<int>(block.threads.size());
  for (int i = 0; i < count; ++i) {
    Thread& t = block.threads[static_cast<std::size_t>(i)];
    char* const stack = stacks[static_cast<std::size_t>(i)];
    const dim3 index(static_cast<unsigned>(i) % block.size.x,
                     static_cast<unsigned>(i) / block.size.x % block.size.y,
                     static_cast<unsigned>(i) / block.size.x / block.size.y);
    t = Thread{};
    t.stack = stack;
    t.index = index;
#if defined(SIMT_ASAN)
    __asan_unpoison_memory_region(stack, kStack);  // the last fiber's frames never returned
#endif
    t.context = ctx::make_fcontext(stack + kStack, kStack, fiber_main);
  }
  block.alive = count;
  block.at_barrier = 0;
  race::begin_block(block.index, block.size);
  while (block.alive > 0) {
    bool moved = false;
    for (const int i : order) {
      if (block.threads[static_cast<std::size_t>(i)].state != State::kReady) continue;
      moved = true;
      resume(i);
    }
    if (block.at_barrier > 0 && block.at_barrier == count) {
      race::block_barrier();
      block.at_barrier = 0;
      for (Thread& t : block.threads) t.state = State::kReady;
      moved = true;
    }
    if (!moved) {
      fail(block.at_barrier > 0 && block.at_barrier + (count - block.alive) == count
               ? "stuck barrier: some threads wait at __syncthreads that others left the kernel "
                 "without reaching"
               : "stuck: no thread can go on");
    }
  }
}

// A lane arrives; the last one of its mask does the work for all. `work(lanes)` gets the meeting's
// threads by lane.
template <typename Work>
void meet(int line, Op op, int kind, unsigned mask, std::uint64_t bits, int operand, int width,
          const Work& work) {
  Thread& me = self();
  const int lane = block.current % kWarp, base = block.current - lane;
  me.line = line;
  me.op = op;
  me.kind = kind;
  me.mask = mask;
  me.bits = bits;
  me.operand = operand;
  me.width = width;
  if ((mask >> lane & 1u) == 0)
    fail("line %d: lane %d calls with mask 0x%08x, which leaves itself out", line, lane, mask);
  bool all_here = true;
  for (int l = 0; l < kWarp && all_here; ++l) {  // whoever comes last finds one that cannot come
    if ((mask >> l & 1u) == 0 || l == lane) continue;
    if (base + l >= static_cast<int>(block.threads.size())) {
      fail("line %d: mask 0x%08x names lane %d, which the block does not have", line, mask, l);
    }
    const Thread& other = block.threads[static_cast<std::size_t>(base + l)];
    if (other.state == State::kDone) {
      fail("line %d: mask 0x%08x names lane %d, which is inactive: it has left the kernel", line,
           mask, l);
    }
    all_here = other.state == State::kWarp && other.op == op && other.kind == kind &&
               other.mask == mask && other.line == line;
  }
  me.state = State::kWarp;
  if (!all_here) {
    switch_to_scheduler(false);
    return;
  }
  Thread* lanes[kWarp];
  for (int l = 0; l < kWarp; ++l) {
    lanes[l] = (mask >> l & 1u) != 0 ? &block.threads[static_cast<std::size_t>(base + l)] : nullptr;
  }
  work(lanes);
  for (Thread* t : lanes) {
    if (t != nullptr) t->state = State::kReady;
  }
}

}  // namespace

void fail(const char* format, ...) {
  std::fprintf(stderr,
               "[simt] kernel %s, block (%u, %u, %u) of (%u, %u, %u), thread %d: ", block.kernel,
               block.index.x, block.index.y, block.index.z, block.grid.x, block.grid.y,
               block.grid.z, block.current);
  va_list arguments;
  va_start(arguments, format);
  std::vfprintf(stderr, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "\n");
  describe_threads();
  std::fflush(stderr);
  std::_Exit(3);
}

void launch(const char* kernel, dim3 grid, dim3 size, cudaStream_t,
            const std::function<void()>& body) {
  ++launches;
  const std::size_t count = static_cast<std::size_t>(size.x) * size.y * size.z;
  const std::size_t blocks = static_cast<std::size_t>(grid.x) * grid.y * grid.z;
  while (stacks.size() < count) {
    // With a page below that nobody may touch.
    void* const memory =
        mmap(nullptr, kStack + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_NONE) != 0) std::abort();
    stacks.push_back(static_cast<char*>(memory) + 4096);
  }
  block.kernel = kernel;
  block.grid = grid;
  block.size = size;
  block.body = &body;
  block.threads.resize(count);
  if (count == 0 || count > 1024 || blocks == 0 || grid.y > 65535 || grid.z > 65535)
    fail("launch of an impossible grid");
  std::vector<int> order(count);
  std::vector<std::size_t> block_order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::iota(block_order.begin(), block_order.end(), std::size_t{0});
  if (options.order == Order::kReverse) {
    std::reverse(order.begin(), order.end());
    std::reverse(block_order.begin(), block_order.end());
  } else if (options.order == Order::kShuffled) {
    std::mt19937 random(options.seed);
    std::shuffle(order.begin(), order.end(), random);
    std::shuffle(block_order.begin(), block_order.end(), random);
  }
  race::begin_launch();
  block.running = true;
  for (const std::size_t b : block_order) {
    block.index =
        dim3(static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
             static_cast<unsigned>(b / grid.x / grid.y));
    run_block(order);
  }
  block.running = false;
}

bool in_kernel() { return block.running; }
int current_thread() { return block.current; }
int last_line(int thread) { return block.threads[static_cast<std::size_t>(thread)].line; }
bool on_own_stack(const void* at) {
  const char* const p = static_cast<const char*>(at);
  const Thread& t = self();
  return p >= t.stack && p < t.stack + kStack;
}

dim3 thread_index() { return self().index; }
dim3 block_index() { return block.index; }
dim3 grid_size() { return block.grid; }
void thread_fence() { race::fence(); }

void sync_threads(int line) {
  Thread& me = self();
  me.line = line;
  if (block.at_barrier == 0) {
    block.barrier_line = line;
  } else if (block.barrier_line != line) {
    fail(
        "divergent barrier: this thread is at the __syncthreads of line %d, others wait at line %d",
        line, block.barrier_line);
  }
  ++block.at_barrier;
  me.state = State::kBlockBarrier;
  switch_to_scheduler(false);
}

void sync_warp(int line, unsigned mask) {
  meet(line, Op::kSyncWarp, 0, mask, 0, 0, 32,
       [&](Thread* const*) { race::warp_barrier(block.current / kWarp, mask); });
}

unsigned ballot(int line, unsigned mask, bool yes) {
  meet(line, Op::kVote, 0, mask, yes ? 1 : 0, 0, 32, [&](Thread* const* lanes) {
    unsigned votes = 0;
    for (int l = 0; l < kWarp; ++l) {
      if (lanes[l] != nullptr && lanes[l]->bits != 0) votes |= 1u << l;
    }
    for (int l = 0; l < kWarp; ++l) {
      if (lanes[l] != nullptr) lanes[l]->bits = votes;
    }
  });
  return static_cast<unsigned>(self().bits);
}

std::uint64_t shuffle_bits(int line, Shuffle kind, unsigned mask, std::uint64_t bits, int operand,
                           int width) {
  if (width < 1 || width > kWarp || (width & (width - 1)) != 0)
    fail("line %d: shuffle of width %d", line, width);
  meet(line, Op::kShuffle, static_cast<int>(kind), mask, bits, operand, width,
       [&](Thread* const* lanes) {
         std::uint64_t brought[kWarp] = {};
         for (int l = 0; l < kWarp; ++l) brought[l] = lanes[l] == nullptr ? 0 : lanes[l]->bits;
         for (int l = 0; l < kWarp; ++l) {
           if (lanes[l] == nullptr) continue;
           const int w = lanes[l]->width, first = l / w * w, by = lanes[l]->operand;
           int from = l;  // the lane itself where the source lies outside of its group
           if (kind == Shuffle::kIndex) from = first + ((by % w) + w) % w;
           if (kind == Shuffle::kXor && (l ^ by) < first + w) from = l ^ by;
           if (kind == Shuffle::kUp && l - by >= first) from = l - by;
           if (from < 0 || from >= kWarp || lanes[from] == nullptr) {
             fail("line %d: lane %d shuffles from lane %d, which mask 0x%08x leaves out", line, l,
                  from, mask);
           }
           lanes[l]->bits = brought[from];
         }
       });
  return self().bits;
}

float load_relaxed(const float* at) {
  race::access(at, 4, race::Kind::kAtomicRead, __builtin_return_address(0));
  return *at;
}

void store_relaxed(float* at, float value) {
  race::access(at, 4, race::Kind::kAtomic, __builtin_return_address(0));
  *at = value;
}

float half_bits_to_float(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value = exponent == 0    ? std::ldexp(static_cast<float>(fraction), -24)
                : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                 : std::ldexp(static_cast<float>(fraction + 1024), exponent - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}

std::uint16_t float_to_half_bits(float x) {
  const int sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return 0x7fff;
  if (x == 0) return static_cast<std::uint16_t>(sign);
  if (std::abs(x) >= 65520) return static_cast<std::uint16_t>(sign | 0x7c00);
  int exponent = 0;
  std::frexp(x, &exponent);
  exponent = std::max(exponent - 1, -14);  // below, the step stays the smallest
  const auto steps = static_cast<int>(std::nearbyint(std::ldexp(std::abs(x), 10 - exponent)));
  return static_cast<std::uint16_t>(sign | ((exponent + 14) * 1024 + steps));
}

}  // namespace simt

namespace {
template <typename F>
std::uint32_t atomically(std::uint32_t* at, const F& change, void* site) {
  simt::race::access(at, 4, simt::race::Kind::kAtomic, site);
  const std::uint32_t before = *at;
  *at = change(before);
  return before;
}
}  // namespace

std::uint32_t atomicAdd(std::uint32_t* at, std::uint32_t value) {
  return atomically(at, [=](std::uint32_t x) { return x + value; }, __builtin_return_address(0));
}
std::uint32_t atomicMax(std::uint32_t* at, std::uint32_t value) {
  return atomically(
      at, [=](std::uint32_t x) { return std::max(x, value); }, __builtin_return_address(0));
}
