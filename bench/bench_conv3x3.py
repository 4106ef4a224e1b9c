"""conv3x3: NAS-Bench-201's dense convolutions and their gradients, beside torch's, which are
oneDNN's. "reference" is torch's, too, through our door."""

from dataclasses import dataclass
from typing import Any

import _convolutions
import numpy as np
import torch
from _convolutions import NEEDS
from _rounds import Bench, Work, faster
from torch import Tensor
from torch.nn.functional import conv2d

from bdp_ext import ops

STAGES = [(16, 32), (32, 16), (64, 8)]  # channels and size of the supernet's cells


@dataclass(frozen=True)
class Convolution:
    """wanted: "output", or the gradient of "input", "weight" or "both"."""

    wanted: str
    batch: int
    channels: int
    size: int

    def __str__(self) -> str:
        return f"{self.wanted}: {self.batch} x {self.channels} x {self.size}^2"


CASES = [
    Convolution(wanted, batch, channels, size)
    for batch in (64, 16)
    for wanted in ("output", *NEEDS)
    for channels, size in STAGES
]
QUICK = [case for case in CASES if case.batch == 16 and case.wanted in ("output", "both")]

Arguments = tuple[str, Tensor, Tensor, Tensor]


def ours(wanted: str, grad: Tensor, x: Tensor, weight: Tensor) -> Tensor | tuple[Tensor, Tensor]:
    if wanted == "output":
        return ops.conv3x3(x, weight)
    need_input, need_weight = NEEDS[wanted]
    return ops.conv3x3_backward(grad, x, weight, need_input=need_input, need_weight=need_weight)


def with_torch(wanted: str, grad: Tensor, x: Tensor, weight: Tensor) -> Any:
    if wanted == "output":
        return conv2d(x, weight, padding=1)
    geometry = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    needs = [*NEEDS[wanted], False]
    return torch.ops.aten.convolution_backward(grad, x, weight, None, *geometry, needs)


def in_numpy(
    wanted: str, grad: np.ndarray, x: np.ndarray, weight: np.ndarray
) -> np.ndarray | tuple[np.ndarray, ...]:
    """A matrix product for each tap; channels come last in memory."""
    x, grad = np.moveaxis(x, 1, 3), np.moveaxis(grad, 1, 3)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    sums = np.zeros_like(padded if wanted in ("input", "both") else grad)
    grad_weight = np.zeros_like(weight)
    height, width = x.shape[1:3]
    for i, j in np.ndindex(3, 3):
        tap, window = weight[:, :, i, j], np.s_[:, i : i + height, j : j + width]
        if wanted == "output":
            sums += padded[window] @ tap.T
        if wanted in ("input", "both"):
            sums[window] += grad @ tap
        if wanted in ("weight", "both"):
            grad_weight[:, :, i, j] = np.tensordot(grad, padded[window], ([0, 1, 2],) * 2)
    if wanted == "output":
        return np.moveaxis(sums, 3, 1)
    return np.moveaxis(sums[:, 1 : 1 + height, 1 : 1 + width], 3, 1), grad_weight


def tensors(case: Convolution, device: torch.device) -> Arguments:
    """All in channels_last, as in a search."""
    torch.manual_seed(0)
    image = (case.batch, case.channels, case.size, case.size)
    shapes = (image, image, (case.channels, case.channels, 3, 3))
    grad, x, weight = (
        torch.randn(shape, device=device).to(memory_format=torch.channels_last) for shape in shapes
    )
    return case.wanted, grad, x, weight


def work(case: Convolution, device: torch.device) -> Work:
    """The products are those of F(4x4, 3x3)."""
    arguments = tensors(case, device)
    _, _, x, _ = arguments
    return _convolutions.work("conv3x3", arguments, x.numel() * case.channels * 36 // 16)


BENCH = Bench(
    op="conv3x3",
    ours=ours,
    cases=CASES,
    quick_cases=QUICK,
    work=work,
    baselines={"tuned": with_torch},
    numpy=in_numpy,
    targets=[
        faster(f"{wanted}: 64 x {channels} x {size}^2", "tuned", 1.25)
        for wanted in ("output", "both")
        for channels, size in STAGES
    ],
)


def test_conv3x3(result, implementation, show):
    show(result, implementation)
