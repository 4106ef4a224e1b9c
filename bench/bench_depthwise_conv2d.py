"""depthwise_conv2d: the DARTS space's depthwise convolutions and their gradients, beside torch's.
"reference" is torch's, too, through our door."""

from dataclasses import dataclass

import _convolutions
import torch
from _convolutions import NEEDS, STAGES
from _rounds import Bench, Work
from torch import Tensor

from bdp_ext import ops


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


def ours(
    wanted: str, grad: Tensor, x: Tensor, weight: Tensor, *geometry: int
) -> Tensor | tuple[Tensor, Tensor]:
    convolution = (x, weight, *geometry[:3])
    if wanted == "output":
        return ops.depthwise_conv2d(*convolution)
    need_input, need_weight = NEEDS[wanted]
    return ops.depthwise_conv2d_backward(
        grad, *convolution, need_input=need_input, need_weight=need_weight
    )


def work(case: Convolution, device: torch.device) -> Work:
    image = (case.batch, case.channels, case.size, case.size)
    kernel = (case.channels, 1, case.kernel, case.kernel)
    geometry = (case.stride, case.dilation * (case.kernel // 2), case.dilation, case.channels)
    return _convolutions.work(case.wanted, image, kernel, geometry, device)


BENCH = Bench(
    op="depthwise_conv2d",
    ours=ours,
    eager=_convolutions.eager,
    cases=CASES,
    quick_cases=QUICK,
    work=work,
)


def test_depthwise_conv2d(case, compare):
    compare(BENCH, case)
