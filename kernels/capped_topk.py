"""capped_topk in Triton around torch's stable sort: greedy over the sorted order is exact
(BDP, Sec. 3.2.3), and the greedy walk in parallel is

    order       the samples by score; ties by index, as the sort is stable
    by_class    that order's positions by class; a class's samples still in the order of score
    rank        a sample's place in its class: allowed if below the class's cap
    running     how many allowed ones stand up to a position: taken if that is <= k

Every step has one possible result, so it is deterministic, and none waits for the device.

Passes over memory at N samples: two radix sorts make up most of it, of 32-bit keys (4 passes over
12 bytes) and of 16-bit classes (2 over 10; 32-bit from 32,767 classes on: 4 over 12); around them
about 60 bytes a sample are read and written, 16 of them scattered. It needs some 40 N bytes for a
while. The compiled CUDA version selects by digit histograms instead and sorts nothing.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024

NAN_KEY = tl.constexpr(0x7FFFFFFF)  # above the key of +inf, 0x7F800000, and of a flipped -inf


@triton.jit
def keys_kernel(
    key: tl.tensor,  # [N] int32, written
    score: tl.tensor,  # [N] float32
    N: tl.tensor,
    stride: tl.tensor,
    LARGEST: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Integers that sort as the scores do: -0 beside +0, NaN last, the largest first if wanted."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(score + i * stride, mask=i < N, other=0.0)
    bits = tl.where(x == 0.0, 0.0, x).to(tl.int32, bitcast=True)  # -0 becomes +0
    ascending = tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)
    ordered = ~ascending if LARGEST else ascending
    tl.store(key + i, tl.where(x == x, ordered, NAN_KEY), mask=i < N)


@triton.jit
def classes_kernel(
    ordered_class: tl.tensor,  # [N] int16 or int32, written
    order: tl.tensor,  # [N] int64
    label: tl.tensor,  # [N] int64, int32 or int16
    N: tl.tensor,
    C: tl.tensor,
    stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """The class at each place of the order, C where the label is no class."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    sample = tl.load(order + i, mask=i < N, other=0)
    y = tl.load(label + sample * stride, mask=i < N, other=0).to(tl.int64)
    y = tl.where((y >= 0) & (y < C), y, C)
    tl.store(ordered_class + i, y.to(ordered_class.dtype.element_ty), mask=i < N)


@triton.jit
def allowed_kernel(
    allowed: tl.tensor,  # [N] int8, written
    sorted_class: tl.tensor,  # [N] int16 or int32
    by_class: tl.tensor,  # [N] int64
    first: tl.tensor,  # [C] int64: where each class begins in sorted_class
    cap: tl.tensor,  # [C] int64
    N: tl.tensor,
    C: tl.tensor,
    stride: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    """Whether the caps allow the sample at each place of the order."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    y = tl.load(sorted_class + i, mask=i < N, other=0).to(tl.int64)
    valid = (i < N) & (y < C)
    rank = i - tl.load(first + y, mask=valid, other=0)
    allow = valid & (rank < tl.load(cap + y * stride, mask=valid, other=0))
    place = tl.load(by_class + i, mask=i < N, other=0)
    tl.store(allowed + place, allow.to(tl.int8), mask=i < N)


@triton.jit(do_not_specialize=["k"])
def take_kernel(
    mask: tl.tensor,  # [N] bool, written
    order: tl.tensor,  # [N] int64
    allowed: tl.tensor,  # [N] int8
    running: tl.tensor,  # [N] int32
    N: tl.tensor,
    k: tl.tensor,
    BLOCK: tl.constexpr,
) -> None:
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    allow = tl.load(allowed + i, mask=i < N, other=0) != 0
    take = allow & (tl.load(running + i, mask=i < N, other=0) <= k)
    sample = tl.load(order + i, mask=i < N, other=0)
    tl.store(mask + sample, take, mask=i < N)


def capped_topk(
    score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool
) -> tuple[Tensor, Tensor]:
    """See `bdp_ext.ops.capped_topk`. N < 2^31, as torch sorts no more at once."""
    N, C, device = score.shape[0], cap.shape[0], score.device
    if N == 0 or C == 0:
        nothing = torch.zeros(N, dtype=torch.bool, device=device)
        return nothing, torch.zeros((), dtype=torch.int64, device=device)
    k = min(k, N)
    grid = (triton.cdiv(N, BLOCK),)
    class_type = torch.int16 if C < 2**15 else torch.int32
    key = torch.empty(N, dtype=torch.int32, device=device)
    ordered_class = torch.empty(N, dtype=class_type, device=device)
    allowed = torch.empty(N, dtype=torch.int8, device=device)
    mask = torch.empty(N, dtype=torch.bool, device=device)
    with torch.cuda.device_of(score):
        keys_kernel[grid](key, score, N, *score.stride(), LARGEST=largest, BLOCK=BLOCK)
        order = key.sort(stable=True).indices
        classes_kernel[grid](ordered_class, order, label, N, C, *label.stride(), BLOCK=BLOCK)
        sorted_class, by_class = ordered_class.sort(stable=True)
        first = torch.searchsorted(sorted_class, torch.arange(C, dtype=class_type, device=device))
        allowed_kernel[grid](
            allowed, sorted_class, by_class, first, cap, N, C, *cap.stride(), BLOCK=BLOCK
        )
        running = allowed.cumsum(0, dtype=torch.int32)
        take_kernel[grid](mask, order, allowed, running, N, k, BLOCK=BLOCK)
    return mask, running[-1].long().clamp(max=k)
