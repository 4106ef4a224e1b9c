// Which instruction set computes: the best one that the processor offers, unless a test asks for
// another one.

#pragma once

namespace bdp_ext {

enum class Isa { kPlain, kAvx2, kAvx512 };
constexpr const char* kIsaNames[] = {"plain", "avx2", "avx512"};

inline Isa BestIsa() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
               ? Isa::kAvx512
               : Isa::kAvx2;
  }
#endif
  return Isa::kPlain;
}

inline Isa& IsaInUse() {
  static Isa isa = BestIsa();
  return isa;
}

}  // namespace bdp_ext

// The function of this name that the processor runs best, out of the namespaces that for_each_isa.h
// fills.
#if defined(__x86_64__)
#define BDP_PICK(function)                                                         \
  (::bdp_ext::IsaInUse() == ::bdp_ext::Isa::kAvx512 ? &::bdp_ext::avx512::function \
   : ::bdp_ext::IsaInUse() == ::bdp_ext::Isa::kAvx2 ? &::bdp_ext::avx2::function   \
                                                    : &::bdp_ext::plain::function)
#else
#define BDP_PICK(function) (&::bdp_ext::plain::function)
#endif
