"""el2n in Triton. With m the largest logit of the other classes and t = exp(m - z_y):

    s1 = sum_{j != y} exp(z_j - m)      s2 = sum_{j != y} exp(2 (z_j - m))
    s  = sqrt(s1^2 + s2) t / (s1 t + 1)                     (BDP, Eq. 3, without cancellation)

One pass over the logits. A row is spread over `LANES` lanes; each keeps the (m, s1, s2) of the
logits it met, in float32, and the lanes are merged in float64, which finishes the row. So the
result does not depend on how Triton spreads lanes over threads.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from bdp_ext.kernels._float64 import inverse, root

LEAST_LANES, MOST_LANES = 16, tl.constexpr(2048)
TILE = 512  # logits a program holds at once, at least: many rows where classes are few

LOWEST = tl.constexpr(-3.4028234663852886e38)  # of float32: below it is only -inf
LOG2E = tl.constexpr(1.4426950216293335)  # log2(e) to float32 ...
LOG2E_REST = tl.constexpr(1.9259629911266175e-08)  # ... and what that leaves out
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def exp_below_one(x: tl.tensor) -> tl.tensor:
    """exp(x) for x <= 0, to 1.3e-7 and exp2's own 2^-22: the rounding of x log2(e) is put back in,
    which alone costs 5e-7 at x = -10, where the many small rivals of 21,841 classes lie."""
    y = x * LOG2E
    rest = tl.fma(x, LOG2E, -y) + x * LOG2E_REST
    e = tl.exp2(y)
    return tl.where(x < -87.0, 0.0, tl.fma(e * rest, LN2, e))  # NaN stays NaN


@triton.jit
def load_rivals(
    row_start: tl.tensor,
    stride_class: tl.tensor,
    column: tl.tensor,
    own: tl.tensor,
    live: tl.tensor,
    C: tl.tensor,
) -> tl.tensor:
    """[ROWS, LANES] float32: these columns' logits, -inf at the own class and past the end."""
    at = row_start[:, None] + column.to(tl.int64)[None, :] * stride_class
    mask = live[:, None] & (column < C)[None, :]
    z = tl.load(at, mask=mask, other=float("-inf")).to(tl.float32)
    # Not in the mask, which must be the same for neighbours where loads are to be 128 bits wide.
    return tl.where(column[None, :] == own[:, None], float("-inf"), z)


@triton.jit
def row_scores(
    logits: tl.tensor,  # [B, C]
    target: tl.tensor,  # [B]
    row: tl.tensor,  # [ROWS] int64
    live: tl.tensor,  # [ROWS] bool: rows to read
    C: tl.tensor,
    stride_row: tl.tensor,
    stride_class: tl.tensor,
    stride_target: tl.tensor,
    LANES: tl.constexpr,
    UNIT: tl.constexpr,
) -> tl.tensor:
    """[ROWS] float32: the scores of these rows, NaN where not live."""
    C = C // UNIT * UNIT  # changes nothing, but tells the compiler that rows are aligned
    stride_row = stride_row // UNIT * UNIT
    own_class = tl.load(target + row * stride_target, mask=live, other=-1)
    live = live & (own_class >= 0) & (own_class < C)
    row_start = logits + row * stride_row
    own = tl.load(row_start + own_class * stride_class, mask=live, other=float("nan"))
    own = own.to(tl.float64)

    column = tl.arange(0, LANES)
    z = load_rivals(row_start, stride_class, column, own_class, live, C)
    top = tl.where(z < LOWEST, LOWEST, z)  # finite, so that top - top is never inf - inf
    s1 = tl.where(z < LOWEST, 0.0, 1.0)
    s2 = s1
    if LANES == MOST_LANES:  # fewer lanes are enough for the whole row
        for start in tl.range(LANES, C, LANES, loop_unroll_factor=2):
            z = load_rivals(row_start, stride_class, start + column, own_class, live, C)
            # One of exp(z - new top) and exp(old top - new top) is 1: a single exp serves both.
            # NaN, and a second +inf, make s1 NaN for good.
            rises = z > top
            e = exp_below_one(-tl.abs(z - top))
            s1 = tl.where(rises, s1 * e + 1.0, s1 + e)
            s2 = tl.where(rises, s2 * (e * e) + 1.0, s2 + e * e)
            top = tl.where(rises, z, top)

    m = tl.max(top, axis=1)
    e = exp_below_one(top - m[:, None])
    s1 = tl.sum((s1 * e).to(tl.float64), axis=1)
    s2 = tl.sum((s2 * (e * e)).to(tl.float64), axis=1)

    margin = own - m.to(tl.float64)
    sure = margin > 0.0
    t = tl.exp(-tl.abs(margin))
    length = tl.where(s1 > 0.0, root(s1 * s1 + s2), 0.0)
    score = tl.where(sure, length * t, length) * inverse(tl.where(sure, s1 * t + 1.0, s1 + t))
    nothing = (own < LOWEST) & (s1 == 0.0)  # a row of -inf alone
    known = live & (own < float("inf")) & (m < float("inf")) & ~nothing
    return tl.where(known, score, float("nan")).to(tl.float32)


@triton.jit(do_not_specialize=["B"])
def el2n_kernel(
    scores: tl.tensor,  # [B] float32, written
    logits: tl.tensor,  # [B, C] float32, float16 or bfloat16
    target: tl.tensor,  # [B] int64
    B: tl.tensor,
    C: tl.tensor,
    stride_row: tl.tensor,
    stride_class: tl.tensor,
    stride_target: tl.tensor,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    UNIT: tl.constexpr,
) -> None:
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    score = row_scores(
        logits, target, row, row < B, C, stride_row, stride_class, stride_target, LANES, UNIT
    )
    tl.store(scores + row, score, mask=row < B)


def tile(logits: Tensor) -> dict[str, int]:
    """How many rows a program takes, over how many lanes and warps it spreads one, and the largest
    power of two up to 16 that divides the row's length and stride."""
    C, stride = logits.shape[1], logits.stride(0)
    lanes = max(LEAST_LANES, min(triton.next_power_of_2(max(C, 1)), MOST_LANES.value))
    return {
        "ROWS": max(1, TILE // lanes),
        "LANES": lanes,
        "UNIT": math.gcd(C, stride, 16),
        "num_warps": 8 if lanes > 1024 else 4,  # 4 to 8 logits a thread
        "maxnreg": 128,  # not needed, but without a bound ptxas may choose 32 and spill
    }


def el2n(logits: Tensor, target: Tensor) -> Tensor:
    """See `bdp_ext.ops.el2n`."""
    B, C = logits.shape
    scores = torch.empty(B, dtype=torch.float32, device=logits.device)
    if B == 0:
        return scores
    shape = tile(logits)
    with torch.cuda.device_of(logits):
        el2n_kernel[(triton.cdiv(B, shape["ROWS"]),)](
            scores, logits, target, B, C, *logits.stride(), *target.stride(), **shape
        )
    return scores
