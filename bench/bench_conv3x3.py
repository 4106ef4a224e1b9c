"""conv3x3: NAS-Bench-201's dense convolutions and their gradients, beside torch's. "reference" is
torch's, too, through our door."""

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

    def __str__(self) -> str:
        return f"{self.wanted}: {self.batch} x {self.channels} x {self.size}^2"


CASES = [
    Convolution(wanted, batch, channels, size)
    for batch in (64, 16)
    for wanted in ("output", *NEEDS)
    for channels, size in STAGES
]
QUICK = [case for case in CASES if case.batch == 16 and case.wanted in ("output", "both")]


def ours(
    wanted: str, grad: Tensor, x: Tensor, weight: Tensor, *_: int
) -> Tensor | tuple[Tensor, Tensor]:
    if wanted == "output":
        return ops.conv3x3(x, weight)
    need_input, need_weight = NEEDS[wanted]
    return ops.conv3x3_backward(grad, x, weight, need_input=need_input, need_weight=need_weight)


def work(case: Convolution, device: torch.device) -> Work:
    image = (case.batch, case.channels, case.size, case.size)
    kernel = (case.channels, case.channels, 3, 3)
    return _convolutions.work(case.wanted, image, kernel, (1, 1, 1, 1), device)


BENCH = Bench(
    op="conv3x3",
    ours=ours,
    eager=_convolutions.eager,
    cases=CASES,
    quick_cases=QUICK,
    work=work,
)


def test_conv3x3(case, compare):
    compare(BENCH, case)
