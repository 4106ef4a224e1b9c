"""node_sum: a node's batch norms and weighted sum, forward and with the gradients of all inputs and
the weight, beside a batch norm and an addition for each input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from _rounds import Bench, Work
from torch import Tensor
from torch.nn.functional import batch_norm

from bdp_ext import ops


@dataclass(frozen=True)
class Node:
    shape: tuple[int, int, int, int]
    inputs: int
    backward: bool

    def __str__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"{self.inputs} of {size}, {'forward + backward' if self.backward else 'forward'}"


SHAPES = [
    (64, 16, 32, 32),
    (64, 32, 16, 16),
    (64, 64, 8, 8),
    (16, 16, 32, 32),
    (256, 4, 32, 32),  # PC-DARTS
]
CASES = [Node(*case) for case in product(SHAPES, (3, 8, 16), (False, True))]
QUICK = [Node(shape, 8, backward) for shape in SHAPES[:3] for backward in (False, True)]


def step(node_sum: Callable[..., Tensor]) -> Callable[..., list[Tensor]]:
    """The node's value, and its gradients where one of the value is given."""

    def run(inputs: list[Tensor], weight: Tensor, grad: Tensor | None) -> list[Tensor]:
        with torch.set_grad_enabled(grad is not None):
            y = node_sum(inputs, weight, [True] * len(inputs))
        return [y] if grad is None else [y, *torch.autograd.grad(y, [*inputs, weight], grad)]

    return run


def weighted_norms(
    inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float = 1e-5
) -> Tensor:
    """The weight is the batch norm's scale, so that no normalised value is kept."""
    total: Tensor | None = None
    for x, scale, norm in zip(inputs, weight.unbind(), normed, strict=True):
        gamma = scale.repeat(x.shape[1])  # not expand: torch 2.14's backward takes its stride for 1
        y = batch_norm(x, None, None, gamma, None, True, eps=eps) if norm else scale * x
        total = y if total is None else total.add_(y)
    return total


def work(case: Node, device: torch.device) -> Work:
    generator = torch.Generator().manual_seed(0)

    def image(seed: int) -> Tensor:
        x = torch.randn(case.shape, generator=generator) + seed % 3
        return x.to(device).contiguous(memory_format=torch.channels_last)

    inputs = [image(k).requires_grad_(case.backward) for k in range(case.inputs)]
    weight = torch.linspace(0.1, 1, case.inputs, device=device).requires_grad_(case.backward)
    grad = image(0) if case.backward else None
    wide = [x.detach().double().requires_grad_(case.backward) for x in (*inputs, weight)]
    expected = step(weighted_norms)(wide[:-1], wide[-1], None if grad is None else grad.double())

    # torch's own batch norm is off by more than 1e-5 here and there (4 channels of 262,144 pixels);
    # tests/ hold ours to 5e-6.
    def check(run: Callable[[], Any]) -> None:
        for got, want in zip(run(), expected, strict=True):
            assert (got - want).abs().max() <= 1e-4 * want.abs().max(), "it is off by over 1e-4"

    return Work([(inputs, weight, grad)], check)


BENCH = Bench(
    op="node_sum",
    ours=step(ops.node_sum),
    eager=step(weighted_norms),
    cases=CASES,
    quick_cases=QUICK,
    work=work,
)


def test_node_sum(case, compare):
    compare(BENCH, case)
