"""voe in Triton: for each column of the ring, over its n known scores (BDP, Eq. 4)

    VoE = (1/n) sum_k (s_k - mean)^2 = (1/n) sum_k d_k^2 - ((1/n) sum_k d_k)^2,   d_k = s_k - shift

with the first known score as the shift, in float64. That second form cancels in general; here it
does not, because the shift is one of the scores: its own term alone makes VoE >= mean(d)^2 / n, so
at most a factor n + 1 of float64's 1e-16 is lost. A constant column has d = 0 and gives exactly 0.
The ring is read once, whatever its length.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from bdp_ext.kernels._float64 import inverse

COLUMNS = 512  # a program takes this many: 4 a thread, a 128-bit load where N allows it


@triton.jit
def column_voe(
    at: tl.tensor,
    stride_k: tl.tensor,
    live: tl.tensor,
    K: tl.tensor,
    slot: tl.tensor,
    score: tl.tensor,
) -> tl.tensor:
    """float32: the variance of the K numbers from each pointer of `at` on, where row `slot` is not
    read but stands in `score`. In the order of k, so that voe and update_voe_ agree to the bit."""
    count = tl.zeros_like(score).to(tl.int32)
    total = tl.zeros_like(score).to(tl.float64)
    squares = total
    shift = tl.full(score.shape, float("nan"), tl.float32)
    for k in tl.range(0, K, loop_unroll_factor=4):
        # The rows advance the pointer: k * stride_k would pass 2^31 at 14 M samples and K = 200.
        x = tl.load(at, mask=live & (k != slot), other=float("nan"))
        at += stride_k
        x = tl.where(k == slot, score, x)
        known = x == x
        shift = tl.where(shift == shift, shift, x)
        d = tl.where(known, x.to(tl.float64) - shift.to(tl.float64), 0.0)
        count += known.to(tl.int32)
        total += d
        squares += d * d
    weight = inverse(tl.maximum(count, 1).to(tl.float64))
    mean = total * weight
    variance = tl.maximum(squares * weight - mean * mean, 0.0)
    return tl.where(count >= 2, variance, float("nan")).to(tl.float32)


@triton.jit(do_not_specialize=["K"])
def voe_kernel(
    variance: tl.tensor,  # [N] float32, written
    window: tl.tensor,  # [K, N] float32
    K: tl.tensor,
    N: tl.tensor,
    stride_k: tl.tensor,
    stride_n: tl.tensor,
    COLUMNS: tl.constexpr,
) -> None:
    column = tl.program_id(0).to(tl.int64) * COLUMNS + tl.arange(0, COLUMNS)
    none = tl.full([COLUMNS], float("nan"), tl.float32)
    result = column_voe(window + column * stride_n, stride_k, column < N, K, -1, none)
    tl.store(variance + column, result, mask=column < N)


def voe(window: Tensor) -> Tensor:
    """See `bdp_ext.ops.voe`."""
    K, N = window.shape
    variance = torch.empty(N, dtype=torch.float32, device=window.device)
    if N == 0:
        return variance
    with torch.cuda.device_of(window):
        voe_kernel[(triton.cdiv(N, COLUMNS),)](
            variance, window, K, N, *window.stride(), COLUMNS=COLUMNS
        )
    return variance
