// float16 and bfloat16 as their bits: no header of torch or a toolkit, the same for all compilers.
#pragma once

namespace bdp_ext {

struct Half {
  unsigned short bits;
};
struct BFloat16 {
  unsigned short bits;
};

}  // namespace bdp_ext
