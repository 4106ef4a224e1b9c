"""Reciprocal and square root in float64, to 1e-13: one Newton step on from float32.

The division and the root that the compiler has call subroutines for the rare case, and ptxas spills
registers around the calls.
"""

import triton
import triton.language as tl


@triton.jit
def inverse(x: tl.tensor) -> tl.tensor:
    """1 / x, for x in float32's range and not 0."""
    y = (1.0 / x.to(tl.float32)).to(tl.float64)
    return y + y * (1.0 - x * y)


@triton.jit
def root(x: tl.tensor) -> tl.tensor:
    """The square root of x, for x in float32's range and not 0."""
    y = tl.rsqrt(x.to(tl.float32)).to(tl.float64)
    r = x * y
    return r + 0.5 * y * (x - r * r)
