// Compiles the file named by BDP_KERNELS once per instruction set, in the namespaces avx512, avx2
// and plain; no build flags are needed. Standard headers must be included before, so that none of
// them is compiled for one set only. Kernels use the vector types of vec_<isa>.h (F, D, M, ...) or
// plain loops, and no lambdas: clang's pragma leaves those without the instruction set.

#include "cpu/isa.h"
#include "cpu/vec_common.h"

#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12's own _mm512_undefined_ps
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#if defined(__clang__)
#pragma clang attribute push(                                                    \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif
namespace bdp_ext::avx512 {
#include "cpu/vec_avx512.h"
#include BDP_KERNELS
}  // namespace bdp_ext::avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace bdp_ext::avx2 {
#include "cpu/vec_avx2.h"
#include BDP_KERNELS
}  // namespace bdp_ext::avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // __x86_64__

namespace bdp_ext::plain {
#include "cpu/vec_plain.h"
#include BDP_KERNELS
}  // namespace bdp_ext::plain
