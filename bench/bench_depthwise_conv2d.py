"""depthwise_conv2d: the DARTS space's depthwise convolutions and their gradients, beside torch's,
which are oneDNN's. "reference" is torch's, too, through our door."""

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
    kernel: int
    stride: int
    dilation: int

    def __str__(self) -> str:
        return (
            f"{self.wanted}: {self.batch} x {self.channels} x {self.size}^2, "
            f"k{self.kernel} s{self.stride} d{self.dilation}"
        )


CASES = [
    Convolution(wanted, 64, channels, size, kernel, stride, dilation)
    for wanted in ("output", *NEEDS)
    for channels, size in STAGES
    for stride in ((1, 2) if size > 8 else (1,))  # 8 x 8 is not reduced any more
    for dilation in (1, 2)
    for kernel in (3, 5)
]
QUICK = [Convolution(wanted, 16, 16, 32, 5, 1, d) for wanted in ("output", "both") for d in (1, 2)]

Arguments = tuple[str, Tensor, Tensor, Tensor, int, int, int]


def ours(wanted: str, grad: Tensor, *convolution: Any) -> Tensor | tuple[Tensor, Tensor]:
    if wanted == "output":
        return ops.depthwise_conv2d(*convolution)
    need_input, need_weight = NEEDS[wanted]
    return ops.depthwise_conv2d_backward(
        grad, *convolution, need_input=need_input, need_weight=need_weight
    )


def with_torch(
    wanted: str, grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Any:
    groups = len(weight)
    if wanted == "output":
        return conv2d(x, weight, None, stride, padding, dilation, groups)
    return torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        [stride] * 2,
        [padding] * 2,
        [dilation] * 2,
        False,
        [0, 0],
        groups,
        [*NEEDS[wanted], False],
    )


def in_numpy(
    wanted: str,
    grad: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    stride: int,
    padding: int,
    dilation: int,
) -> np.ndarray | tuple[np.ndarray, ...]:
    """Tap by tap; channels come last in memory."""
    x, grad = np.moveaxis(x, 1, 3), np.moveaxis(grad, 1, 3)
    border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
    padded = np.pad(x, border)
    sums = np.zeros_like(padded if wanted in ("input", "both") else grad)
    grad_weight = np.zeros_like(weight)
    height, width = ((n - 1) * stride + 1 for n in grad.shape[1:3])
    for i, j in np.ndindex(weight.shape[2:]):
        rows = slice(i * dilation, i * dilation + height, stride)
        columns = slice(j * dilation, j * dilation + width, stride)
        tap = weight[:, 0, i, j]
        if wanted == "output":
            sums += padded[:, rows, columns] * tap
        if wanted in ("input", "both"):
            sums[:, rows, columns] += grad * tap
        if wanted in ("weight", "both"):
            grad_weight[:, 0, i, j] = np.einsum("bhwc,bhwc->c", padded[:, rows, columns], grad)
    if wanted == "output":
        return np.moveaxis(sums, 3, 1)
    inside = slice(padding, padding + x.shape[1]), slice(padding, padding + x.shape[2])
    return np.moveaxis(sums[:, inside[0], inside[1]], 3, 1), grad_weight


def tensors(case: Convolution, device: torch.device) -> Arguments:
    torch.manual_seed(0)
    padding = case.dilation * (case.kernel // 2)
    size = case.size // case.stride
    x, grad = (
        torch.randn(case.batch, case.channels, n, n, device=device).to(
            memory_format=torch.channels_last
        )
        for n in (case.size, size)
    )
    weight = torch.randn(case.channels, 1, case.kernel, case.kernel, device=device)
    return case.wanted, grad, x, weight, case.stride, padding, case.dilation


def work(case: Convolution, device: torch.device) -> Work:
    arguments = tensors(case, device)
    _, grad, *_ = arguments
    return _convolutions.work("depthwise_conv2d", arguments, grad.numel() * case.kernel**2)


BENCH = Bench(
    op="depthwise_conv2d",
    ours=ours,
    cases=CASES,
    quick_cases=QUICK,
    work=work,
    baselines={"tuned": with_torch},
    numpy=in_numpy,
    targets=[
        faster("weight: 64 x 16 x 32^2, k5 s1 d1", "tuned", 5),
        faster("both: 64 x 16 x 32^2, k5 s1 d1", "tuned", 5),
        faster("both: 64 x 16 x 32^2, k5 s1 d2", "tuned", 5),
        faster("output: 64 x 16 x 32^2, k5 s1 d1", "tuned", 1),
    ],
)


def test_depthwise_conv2d(result, implementation, show):
    show(result, implementation)
