"""How many kernels the CUDA launchers of csrc/cuda launch, memsets included: one table, which
tests/simt/test_launches.py holds to the launchers and by which tests/fake_gpu.py counts.

Each function takes what the operation takes.
"""

from collections.abc import Callable, Sequence

from torch import Tensor

MULTIPROCESSORS = 132  # of an H200
MOST_INPUTS = 64  # of a node, in a launch
MOST_SCANNED = 4096  # rows of a batch
SPLIT_CLASSES = 4096


def el2n(logits: Tensor, target: Tensor) -> int:
    return _rows(*logits.shape)


def update_voe_(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> int:
    if not len(logits) or not len(voe):
        return 0
    return _rows(*logits.shape) + (2 if len(logits) > MOST_SCANNED else 0)


def voe(window: Tensor) -> int:
    return 1 if window.shape[1] else 0


def capped_topk(score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool) -> int:
    return 12 if len(score) else 1


def node_sum(inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float) -> int:
    starts = range(0, len(inputs), MOST_INPUTS)
    return sum(2 + any(normed[at : at + MOST_INPUTS]) for at in starts)


def node_sum_backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    weight: Tensor,
    normed: Sequence[bool],
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    need_inputs: Sequence[bool],
    need_weight: bool,
) -> int:
    launches = 0
    for at in range(0, len(inputs), MOST_INPUTS):
        needed = need_inputs[at : at + MOST_INPUTS]
        sums = need_weight or any(
            norm and need for norm, need in zip(normed[at:], needed, strict=False)
        )
        launches += 2 * sums + any(needed)
    return launches


def norm_relu(x: Tensor, eps: float) -> int:
    return node_sum([x], x, [True], eps) + FILL


def norm_relu_backward(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> int:
    return node_sum_backward(grad, [x], x, [True], mean, rstd, eps, [True], False) + FILL


FILL = 1  # of norm_relu's weight, by torch: csrc/register_node.cpp


def _rows(rows: int, classes: int) -> int:
    """One, and a memset where few long rows are split."""
    splits = min(-(-2 * MULTIPROCESSORS // max(rows, 1)), classes // SPLIT_CLASSES)
    return (1 + (splits > 1)) if rows else 0


OWN: dict[str, Callable[..., int]] = {
    "el2n": el2n,
    "update_voe_": update_voe_,
    "voe": voe,
    "capped_topk": capped_topk,
    "node_sum": node_sum,
    "node_sum_backward": node_sum_backward,
    "norm_relu": norm_relu,
    "norm_relu_backward": norm_relu_backward,
}
