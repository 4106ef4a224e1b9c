"""What the benches of the convolutions share: the tensors, the check, and torch's way."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from _rounds import Work
from torch import Tensor
from torch.nn.functional import conv2d

STAGES = [(16, 32), (32, 16), (64, 8)]  # channels and size of the supernets' cells
NEEDS = {"input": (True, False), "weight": (False, True), "both": (True, True)}
"""Which gradients are wanted, of "input", "weight" or "both"; "output" is wanted besides."""
Geometry = tuple[int, int, int, int]
"""Stride, padding, dilation and groups."""


def eager(wanted: str, grad: Tensor, x: Tensor, weight: Tensor, *geometry: int) -> Any:
    """torch's, which is oneDNN's."""
    stride, padding, dilation, groups = geometry
    if wanted == "output":
        return conv2d(x, weight, None, *geometry)
    return torch.ops.aten.convolution_backward(
        *(grad, x, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2),
        *(False, [0, 0], groups, [*NEEDS[wanted], False]),
    )


def work(
    wanted: str,
    image: Sequence[int],
    kernel: Sequence[int],
    geometry: Geometry,
    device: torch.device,
) -> Work:
    """All in channels_last, as in a search; checked to 1e-5 of the largest number, against
    float64.

    Args:
        image, kernel: the shapes of input and weight.
    """
    torch.manual_seed(0)
    x, weight = (
        torch.randn(shape, device=device).to(memory_format=torch.channels_last)
        for shape in (image, kernel)
    )
    grad = torch.randn_like(conv2d(x, weight, None, *geometry))
    wide = (tensor.double() for tensor in (grad, x, weight))
    expected = _wanted(wanted, eager(wanted, *wide, *geometry))

    def check(run: Callable[[], Any]) -> None:
        for got, exact in zip(_wanted(wanted, run()), expected, strict=True):
            error = (got.double() - exact).abs().max() / exact.abs().max()
            assert error <= 1e-5, f"off by {error:.1e}"

    return Work([(wanted, grad, x, weight, *geometry)], check)


def _wanted(wanted: str, found: Any) -> list[Tensor]:
    if wanted == "output":
        return [found]
    return [found[i] for i in range(2) if NEEDS[wanted][i]]
