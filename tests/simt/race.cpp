// Race detection by vector clocks. Within a block, __syncthreads orders everything, __syncwarp the
// lanes it names.
//
// Shared memory is the program's own data segment (`__shared__` is `static`); all else that is not
// a stack is global. Global memory is followed across the blocks of a launch as well; see simt.h
// for what orders blocks.
#include "race.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <unordered_set>
#include <vector>

extern char __data_start, _end;  // set by the linker

namespace simt::race {
namespace {

constexpr int kWarp = 32;

struct Access {
  int thread;
  unsigned clock;       // of the thread when it happened
  unsigned char bytes;  // bit i: byte i of the word
  Kind kind;
};

// The last other block of this launch that did what.
struct Others {
  int plain_read = -1, plain_write = -1, atomic = -1;
};

// A 4-byte word of memory.
struct Word {
  unsigned launch = 0, block = 0, phase = 0;
  unsigned char written = 0;  // bytes that this block has written, in any phase (shared memory)
  std::vector<Access> reads, changes;  // of this block, in this phase
  std::array<Others, 2> others;        // of each half: blocks may write float16 side by side
};

bool active = false;                 // an instrumented kernel has been seen
const char* caller_stack = nullptr;  // kernels read their arguments there
unsigned launch_number = 0, block_number = 0, phase = 0;
std::vector<std::array<unsigned, kWarp>> clocks;  // [thread][lane of its warp]
std::unordered_map<std::uintptr_t, Word> words;

// Ordering between blocks.
std::vector<char> fenced;  // [thread] no write since its last __threadfence
std::unordered_set<unsigned> seen,
    acquired;  // blocks whose writes this block may read; ... after its next fence
std::unordered_map<std::uintptr_t, std::unordered_set<unsigned>> published;  // by atomic variable

bool is_shared(const void* at) { return at >= &__data_start && at < &_end; }
bool writes(Kind kind) { return kind == Kind::kWrite || kind == Kind::kAtomic; }
bool atomic(Kind kind) { return kind == Kind::kAtomic || kind == Kind::kAtomicRead; }
bool conflict(Kind a, Kind b) { return (writes(a) || writes(b)) && !(atomic(a) && atomic(b)); }
const char* name(Kind kind) {
  constexpr const char* names[] = {"reads", "writes", "reads atomically", "updates atomically"};
  return names[static_cast<int>(kind)];
}

void check_word(std::uintptr_t key, unsigned char bytes, Kind kind, bool shared, const void* site) {
  const int me = current_thread();
  Word& word = words[key];
  if (word.launch != launch_number || (shared && word.block != block_number)) {
    word.written = 0;
    word.reads.clear();
    word.changes.clear();
    word.others = {};
  } else if (word.block != block_number || word.phase != phase) {
    for (const auto* accesses : {&word.reads, &word.changes}) {
      for (const Access& a : *accesses) {  // a summary of what the next block will ask about
        for (std::size_t half = 0; half < 2; ++half) {
          if ((a.bytes >> 2 * half & 3) == 0) continue;
          Others& others = word.others[half];
          (atomic(a.kind)           ? others.atomic
           : a.kind == Kind::kWrite ? others.plain_write
                                    : others.plain_read) = static_cast<int>(word.block);
        }
      }
    }
    word.reads.clear();
    word.changes.clear();
  }
  word.launch = launch_number;
  word.block = block_number;
  word.phase = phase;

  if (!shared) {
    const auto clash = [&](int other, Kind theirs) {
      if (other < 0 || other == static_cast<int>(block_number) || !conflict(kind, theirs)) return;
      if (seen.count(static_cast<unsigned>(other)) != 0) return;
      fail(
          "race between blocks: thread %d of this block %s a word of global memory that the %dth "
          "block of the launch "
          "%s, with nothing to order them (site %p)",
          me, name(kind), other, name(theirs), site);
    };
    for (std::size_t half = 0; half < 2; ++half) {
      if ((bytes >> 2 * half & 3) == 0) continue;
      clash(word.others[half].plain_write, Kind::kWrite);
      clash(word.others[half].atomic, Kind::kAtomic);
      clash(word.others[half].plain_read, Kind::kRead);
    }
  } else if (!writes(kind) && (bytes & ~word.written) != 0) {
    fail("thread %d reads shared memory that this block has not written (site %p)", me, site);
  }
  const auto& mine = clocks[static_cast<std::size_t>(me)];
  const auto compare = [&](const std::vector<Access>& accesses) {
    for (const Access& a : accesses) {
      if (a.thread == me || (a.bytes & bytes) == 0 || !conflict(a.kind, kind)) continue;
      const bool same_warp = a.thread / kWarp == me / kWarp;
      if (same_warp && a.clock <= mine[static_cast<std::size_t>(a.thread % kWarp)]) continue;
      fail(
          "race: thread %d %s a word of %s memory that thread %d %s, with no barrier in between "
          "(last barrier, vote "
          "or shuffle: lines %d and %d; site %p)",
          me, name(kind), shared ? "shared" : "global", a.thread, name(a.kind), last_line(me),
          last_line(a.thread), site);
    }
  };
  compare(word.changes);
  if (writes(kind)) compare(word.reads);
  auto& accesses = writes(kind) ? word.changes : word.reads;
  const unsigned clock = mine[static_cast<std::size_t>(me % kWarp)];
  if (!accesses.empty() && accesses.back().thread == me && accesses.back().kind == kind &&
      accesses.back().clock == clock) {
    accesses.back().bytes |= bytes;
  } else {
    accesses.push_back({me, clock, bytes, kind});
  }
  if (writes(kind)) word.written |= bytes;
}

}  // namespace

void begin_launch() {
  ++launch_number;
  caller_stack = static_cast<const char*>(__builtin_frame_address(0));
  block_number = 0;
  words.clear();
  published.clear();
}

void begin_block(dim3, dim3 size) {
  ++block_number;
  phase = 0;
  const std::size_t threads = static_cast<std::size_t>(size.x) * size.y * size.z;
  clocks.assign(threads, {});
  for (std::size_t t = 0; t < threads; ++t) clocks[t][t % kWarp] = 1;
  fenced.assign(threads, 0);
  seen.clear();
  acquired.clear();
}

void block_barrier() { ++phase; }

void warp_barrier(int warp, unsigned mask) {
  std::array<unsigned, kWarp> joint{};
  const auto thread = [&](int lane) { return static_cast<std::size_t>(warp * kWarp + lane); };
  for (int l = 0; l < kWarp; ++l) {
    if ((mask >> l & 1u) == 0) continue;
    for (std::size_t i = 0; i < kWarp; ++i) joint[i] = std::max(joint[i], clocks[thread(l)][i]);
  }
  for (int l = 0; l < kWarp; ++l) {
    if ((mask >> l & 1u) == 0) continue;
    clocks[thread(l)] = joint;
    ++clocks[thread(l)][static_cast<std::size_t>(l)];
  }
}

void fence() {
  fenced[static_cast<std::size_t>(current_thread())] = 1;
  seen.insert(acquired.begin(), acquired.end());
  acquired.clear();
}

void access(const void* at, std::size_t bytes, Kind kind, const void* site) {
  if (!active || !in_kernel() || on_own_stack(at)) return;
  if (at >= caller_stack && at < caller_stack + (8 << 20)) return;
  const auto address = reinterpret_cast<std::uintptr_t>(at);
  const bool shared = is_shared(at);
  const auto me = static_cast<std::size_t>(current_thread());
  for (std::uintptr_t word = address / 4; word <= (address + bytes - 1) / 4; ++word) {
    unsigned char mask = 0;
    for (std::uintptr_t i = 0; i < 4; ++i) {
      if (word * 4 + i >= address && word * 4 + i < address + bytes)
        mask |= static_cast<unsigned char>(1u << i);
    }
    check_word(word, mask, kind, shared, site);
  }
  if (shared) return;
  if (kind == Kind::kWrite) fenced[me] = 0;
  if (kind == Kind::kAtomic) {
    auto& variable = published[address];
    acquired.insert(variable.begin(), variable.end());
    if (fenced[me] != 0) {
      variable.insert(block_number);
      variable.insert(seen.begin(), seen.end());
    }
  }
}

}  // namespace simt::race

// What g++ -fsanitize=thread calls (compile with -fno-builtin: it knows these names). No part of
// its run-time library is linked.
using simt::race::Kind;
#define HOOK(name, bytes, kind) \
  void name(void* at) { simt::race::access(at, bytes, kind, __builtin_return_address(0)); }
#define HOOKS(bytes)                                          \
  HOOK(__tsan_read##bytes, bytes, Kind::kRead)                \
  HOOK(__tsan_write##bytes, bytes, Kind::kWrite)              \
  HOOK(__tsan_unaligned_read##bytes, bytes, Kind::kRead)      \
  HOOK(__tsan_unaligned_write##bytes, bytes, Kind::kWrite)    \
  HOOK(__tsan_volatile_read##bytes, bytes, Kind::kAtomicRead) \
  HOOK(__tsan_volatile_write##bytes, bytes, Kind::kAtomic)
extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_init() { simt::race::active = true; }
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
void __tsan_read_range(void* at, unsigned long bytes) {
  simt::race::access(at, bytes, Kind::kRead, __builtin_return_address(0));
}
void __tsan_write_range(void* at, unsigned long bytes) {
  simt::race::access(at, bytes, Kind::kWrite, __builtin_return_address(0));
}
}
