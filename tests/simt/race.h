// Race detection for simt.h: who touched which bytes since the last barrier. Active in race builds
// only, where the compiler calls the __tsan_* functions of race.cpp for every access of the
// kernels.
#pragma once

#include "simt.h"

namespace simt {

[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));
bool in_kernel();
int current_thread();
int last_line(int thread);  // of its last barrier, vote or shuffle
bool on_own_stack(const void* at);

namespace race {

enum class Kind : unsigned char { kRead, kWrite, kAtomicRead, kAtomic };

void begin_launch();
void begin_block(dim3 index, dim3 size);
void block_barrier();
void warp_barrier(int warp, unsigned mask);
void fence();
void access(const void* at, std::size_t bytes, Kind kind, const void* site);

}  // namespace race
}  // namespace simt
