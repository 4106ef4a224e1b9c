// Which instruction set computes, chosen once at run time: the best one the processor offers, or
// the one that BDP_EXT_ISA=plain|avx2|avx512 asks for (tests run every one of them; an unknown or
// missing one is ignored).

#pragma once

#include <cstdlib>
#include <cstring>

namespace bdp_ext {

enum class Isa { kPlain, kAvx2, kAvx512 };

inline Isa DetectIsa() {
  Isa best = Isa::kPlain;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
      __builtin_cpu_supports("f16c")) {
    best = Isa::kAvx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      best = Isa::kAvx512;
    }
  }
#endif
  const char* asked = std::getenv("BDP_EXT_ISA");
  if (asked != nullptr && std::strcmp(asked, "plain") == 0) return Isa::kPlain;
  if (asked != nullptr && std::strcmp(asked, "avx2") == 0 && best == Isa::kAvx512) {
    return Isa::kAvx2;
  }
  return best;
}

inline Isa BestIsa() {
  static const Isa isa = DetectIsa();
  return isa;
}

}  // namespace bdp_ext

// The function of this name that the processor runs best, out of the namespaces that for_each_isa.h
// fills.
#if defined(__x86_64__)
#define BDP_PICK(function)                                                        \
  (::bdp_ext::BestIsa() == ::bdp_ext::Isa::kAvx512 ? &::bdp_ext::avx512::function \
   : ::bdp_ext::BestIsa() == ::bdp_ext::Isa::kAvx2 ? &::bdp_ext::avx2::function   \
                                                   : &::bdp_ext::plain::function)
#else
#define BDP_PICK(function) (&::bdp_ext::plain::function)
#endif
