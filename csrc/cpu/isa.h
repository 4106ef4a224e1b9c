// Which instruction set computes: the best one that the processor offers, unless
// BDP_EXT_ISA=plain|avx2|avx512 or a test asks for another one that it has.

#pragma once

#include <cstdlib>
#include <cstring>

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

// Whether the processor has the instruction set of this name; then it is put into `found`.
inline bool FindIsa(const char* name, Isa* found) {
  for (int i = 0; i <= static_cast<int>(BestIsa()); ++i) {
    if (std::strcmp(name, kIsaNames[i]) == 0) {
      *found = static_cast<Isa>(i);
      return true;
    }
  }
  return false;
}

inline Isa FirstIsa() {
  Isa isa = BestIsa();
  const char* asked = std::getenv("BDP_EXT_ISA");
  if (asked != nullptr) FindIsa(asked, &isa);
  return isa;
}

inline Isa& IsaInUse() {
  static Isa isa = FirstIsa();
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
