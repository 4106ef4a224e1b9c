"""Slow and plain answers to the operations, from their definitions and in float64.

They share nothing with `bdp_ext.ops.reference`, which is itself under test.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import batch_norm

NAN = float("nan")
INF = float("inf")


def el2n(logits: Tensor, target: Tensor) -> Tensor:
    """[B] float64: the distance of softmax from one-hot, where 1 - p_y is the sum of the other p.

    So written, nothing cancels in float64 at margins up to 700.
    """
    scores = []
    for row, y in zip(logits.double(), target.tolist(), strict=True):
        known = 0 <= y < len(row) and -INF < float(row.max()) < INF  # the max of NaN is NaN
        if not known:
            scores.append(NAN)
            continue
        probability = (row - row.logsumexp(0)).exp()
        others = torch.cat([probability[:y], probability[y + 1 :]])
        scores.append(math.hypot(float(others.sum()), float(others.norm())))
    return torch.tensor(scores, dtype=torch.float64)


def voe(window: Tensor) -> Tensor:
    """[N] float64: the variance of each column's numbers, NaN below two."""
    variances = []
    for column in window.double().t():
        known = column[~column.isnan()]
        variances.append(float(known.var(correction=0)) if len(known) >= 2 else NAN)
    return torch.tensor(variances, dtype=torch.float64)


def update_voe(
    window: Tensor, voe_before: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> tuple[Tensor, Tensor]:
    """The ring and the VoE after a batch, row by row."""
    window, variance = window.double(), voe_before.double()
    for i, score in zip(index.tolist(), el2n(logits, target), strict=True):
        if i >= 0:
            window[slot, i] = score.float()
            variance[i] = voe(window[:, i : i + 1])[0]
    return window, variance


def capped_topk(
    score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool
) -> tuple[Tensor, int]:
    """The greedy walk over the sorted order. Python's sort is stable and takes -0 for +0."""
    scores, left = score.tolist(), cap.tolist()
    sign = -1 if largest else 1
    order = sorted(
        range(len(scores)),
        key=lambda i: (1, 0.0) if math.isnan(scores[i]) else (0, sign * scores[i]),
    )
    mask = torch.zeros(len(scores), dtype=torch.bool)
    taken = 0
    for i in order:
        y = int(label[i])
        if taken < k and 0 <= y < len(left) and left[y] > 0:
            left[y] -= 1
            taken += 1
            mask[i] = True
    return mask, taken


def depthwise_conv2d(
    input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """[B, C, H', W'] float64, tap by tap; differentiable."""
    padded = torch.nn.functional.pad(input.double(), [padding] * 4)
    kernel = weight.shape[2]
    reach = dilation * (kernel - 1)
    height, width = (size - reach for size in padded.shape[2:])
    return sum(
        padded[:, :, i : i + height : stride, j : j + width : stride]
        * weight.double()[:, :, i // dilation, j // dilation, None]
        for i in range(0, reach + 1, dilation)
        for j in range(0, reach + 1, dilation)
    )


def conv3x3(input: Tensor, weight: Tensor) -> Tensor:
    """[B, O, H, W] float64, tap by tap; differentiable."""
    height, width = input.shape[2:]
    padded = torch.nn.functional.pad(input.double(), [1] * 4)
    return sum(
        torch.einsum(
            "bihw,oi->bohw",
            padded[:, :, i : i + height, j : j + width],
            weight.double()[:, :, i, j],
        )
        for i in range(3)
        for j in range(3)
    )


def relative_error(got: Tensor, expected: Tensor) -> float:
    """The largest one, in float64; infinite where only one of the two is NaN."""
    got, expected = got.double(), expected.double()
    if not torch.equal(got.isnan(), expected.isnan()):
        return INF
    known = (got != expected) & ~got.isnan()
    error = (got - expected)[known].abs() / expected[known].abs()
    return float(error.max()) if len(error) else 0.0


def equal(a: Tensor, b: Tensor) -> bool:
    """Equal bits, but one NaN is like another."""
    return torch.equal(a.isnan(), b.isnan()) and torch.equal(a.nan_to_num(), b.nan_to_num())


def same_voe(implementation: str, a: Tensor, b: Tensor) -> bool:
    """Equal bits; the plain torch version sums in an order that depends on the tensor's shape."""
    return relative_error(a, b) <= 1e-6 if implementation == "reference" else equal(a, b)


def node_sum(inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool]) -> Tensor:
    """torch's own batch norm, in float64."""
    total = torch.zeros_like(inputs[0], dtype=torch.float64)
    for x, w, norm in zip(inputs, weight.double(), normed, strict=True):
        wide = x.double()
        total = total + w * (batch_norm(wide, None, None, training=True) if norm else wide)
    return total
