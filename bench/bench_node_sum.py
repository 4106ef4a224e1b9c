"""node_sum: a node's batch norms and weighted sum, forward and with the gradients of all inputs and
the weight, beside a batch norm and a multiply-add for each input."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
import torch
from _rounds import Bench, Work, faster, within
from torch import Tensor
from torch.nn.functional import batch_norm

from bdp_ext import ops

EPS = 1e-5
COPY = "copy as many bytes"


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


def step(node: Callable[[list[Tensor], Tensor], Tensor]) -> Callable[..., list[Tensor]]:
    """The node's value, and its gradients where one of the value is given."""

    def run(inputs: list[Tensor], weight: Tensor, grad: Tensor | None) -> list[Tensor]:
        if grad is None:
            return [node(inputs, weight)]
        with torch.enable_grad():
            y = node(inputs, weight)
        return [y, *torch.autograd.grad(y, [*inputs, weight], grad)]

    return run


def ours(inputs: list[Tensor], weight: Tensor) -> Tensor:
    return ops.node_sum(inputs, weight, [True] * len(inputs), EPS)


def eager(inputs: list[Tensor], weight: Tensor) -> Tensor:
    total = weight[0] * batch_norm(inputs[0], None, None, training=True, eps=EPS)
    for k, x in enumerate(inputs[1:], 1):
        total = total + weight[k] * batch_norm(x, None, None, training=True, eps=EPS)
    return total


def tuned(inputs: list[Tensor], weight: Tensor) -> Tensor:
    """The weight as the batch norm's scale: no multiplication of its own. It must be repeated, as
    torch 2.14's backward takes the stride of a scale for 1 where images are channels last."""
    channels = inputs[0].shape[1]
    total = None
    for w, x in zip(weight.unbind(), inputs, strict=True):
        y = batch_norm(x, None, None, w.repeat(channels), training=True, eps=EPS)
        total = y if total is None else total + y
    return total


def in_numpy(inputs: list[Tensor], weight: np.ndarray, grad: np.ndarray | None) -> list[Any]:
    total, gradients, of_weight = 0, [], []
    for w, tensor in zip(weight.__array__(), inputs, strict=True):
        x = tensor.detach().numpy()
        mean = x.mean((0, 2, 3), keepdims=True)
        rstd = (x.var((0, 2, 3), keepdims=True) + EPS) ** -0.5
        h = (x - mean) * rstd
        total = total + w * h
        if grad is not None:
            along = (grad * h).mean((0, 2, 3), keepdims=True)
            gradients.append(w * rstd * (grad - grad.mean((0, 2, 3), keepdims=True) - h * along))
            of_weight.append((grad * h).sum())
    return [total] if grad is None else [total, *gradients, np.stack(of_weight)]


def work(case: Node, device: torch.device) -> Work:
    generator = torch.Generator().manual_seed(0)

    def image(seed: int) -> Tensor:
        x = torch.randn(case.shape, generator=generator) + seed % 3
        return x.to(device).contiguous(memory_format=torch.channels_last)

    inputs = [image(k).requires_grad_(case.backward) for k in range(case.inputs)]
    weight = torch.linspace(0.1, 1, case.inputs, device=device)
    grad = image(0) if case.backward else None
    wide = [x.detach().double().requires_grad_(case.backward) for x in inputs]
    wide_weight = weight.double().requires_grad_(case.backward)
    wide_grad = None if grad is None else grad.double()
    expected = [y.detach() for y in step(eager)(wide, wide_weight, wide_grad)]
    weight.requires_grad_(case.backward)

    # torch's own batch norm is off by more than 1e-5 here and there (4 channels of 262,144 pixels);
    # tests/ hold ours to 5e-6.
    def check(run: Callable[[], Any]) -> None:
        for got, want in zip(run(), expected, strict=True):
            got = torch.as_tensor(got, device=device).detach().double()
            assert (got - want).abs().max() <= 1e-4 * want.abs().max(), "it is off by over 1e-4"

    size = inputs[0].numel() * 4
    # The inputs twice and y; then gradient and inputs twice, and the inputs' gradients.
    count = 2 * case.inputs + 1 + (3 * case.inputs + 2 if case.backward else 0)
    source = torch.ones(count * size // 2, dtype=torch.int8, device=device)
    return Work(
        calls=[(inputs, weight, grad)],
        check=check,
        bytes=count * size,
        floors={COPY: partial(torch.empty_like(source).copy_, source)},
    )


BENCH = Bench(
    op="node_sum",
    ours=step(ours),
    cases=CASES,
    quick_cases=QUICK,
    work=work,
    baselines={"eager": step(eager), "tuned": step(tuned)},
    numpy=in_numpy,
    targets=[
        target
        for case in map(str, QUICK)
        for target in (faster(case, "eager", 2), within(case, COPY, 1.2))
    ],
)


def test_node_sum(result, implementation, show):
    show(result, implementation)
