"""update_voe_ in Triton: one launch scores a batch, writes the ring's row and renews the VoE.

A program owns some rows of the batch, and of rows that name the same sample only the last acts: the
others see it behind them in `index` and step aside. So no two programs touch a column of the ring,
and the result is that of the rows one after the other. Looking behind costs B^2 / 2 comparisons of
indices that lie in the cache: nothing at the batches of a search, 0.5 M at 1,024 rows.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from bdp_ext.kernels.el2n import row_scores, tile
from bdp_ext.kernels.voe import column_voe

LATER_MOST = 256  # indices looked at in one step, at most


@triton.jit(do_not_specialize=["slot", "K", "B"])  # no compilation for slot 0, then for slot 1
def update_voe_kernel(
    window: tl.tensor,  # [K, N] float32, contiguous, written
    voe: tl.tensor,  # [N] float32, contiguous, written
    slot: tl.tensor,
    index: tl.tensor,  # [B] int64
    logits: tl.tensor,  # [B, C] float32, float16 or bfloat16
    target: tl.tensor,  # [B] int64
    K: tl.tensor,
    N: tl.tensor,
    B: tl.tensor,
    C: tl.tensor,
    stride_index: tl.tensor,
    stride_row: tl.tensor,
    stride_class: tl.tensor,
    stride_target: tl.tensor,
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
    UNIT: tl.constexpr,
    LATER: tl.constexpr,
) -> None:
    first_row = tl.program_id(0).to(tl.int64) * ROWS
    row = first_row + tl.arange(0, ROWS)
    sample = tl.load(index + row * stride_index, mask=row < B, other=-1)
    live = (sample >= 0) & (sample < N)

    step = tl.arange(0, LATER)
    again = tl.zeros([ROWS, LATER], tl.int1)
    for start in tl.range(first_row, B, LATER, loop_unroll_factor=4):
        later = start + step
        other = tl.load(index + later * stride_index, mask=later < B, other=-1)
        again |= (other[None, :] == sample[:, None]) & (later[None, :] > row[:, None])
    live = live & (tl.max(again.to(tl.int32), axis=1) == 0)

    score = row_scores(
        logits, target, row, live, C, stride_row, stride_class, stride_target, LANES, UNIT
    )
    variance = column_voe(window + sample, N, live, K, slot, score)
    tl.store(window + slot * tl.cast(N, tl.int64) + sample, score, mask=live)
    tl.store(voe + sample, variance, mask=live)


def update_voe_(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    """See `bdp_ext.ops.update_voe_`."""
    (K, N), (B, C) = window.shape, logits.shape
    if B == 0:
        return
    if not index.is_cuda and int(index.max()) >= N:  # a GPU would have to wait for that
        raise IndexError(f"update_voe_: index {int(index.max())} of {N} samples")
    shape = tile(logits)
    with torch.cuda.device_of(logits):
        update_voe_kernel[(triton.cdiv(B, shape["ROWS"]),)](
            window,
            voe,
            slot,
            index,
            logits,
            target,
            K,
            N,
            B,
            C,
            *index.stride(),
            *logits.stride(),
            *target.stride(),
            LATER=later(shape["ROWS"]),
            **shape,
        )


def later(rows: int) -> int:
    """How many indices a program of so many rows looks at in one step: 8 comparisons a thread."""
    return min(LATER_MOST, 1024 // rows)
