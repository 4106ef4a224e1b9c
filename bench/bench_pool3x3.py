"""pool3x3: the 3x3 pools of the DARTS and NAS-Bench-201 spaces and their gradients, beside torch's
in channels_last. "reference" is torch's, too, through our door."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from _rounds import Bench, Work, faster
from torch import Tensor
from torch.nn.functional import avg_pool2d

from bdp_ext import ops
from bdp_ext.ops import reference

STAGES = [(16, 32), (32, 16), (64, 8)]  # channels and size of the supernet's cells
POOLS = {"average": (True, False), "maximum": (False, True), "both": (True, True)}


@dataclass(frozen=True)
class Pools:
    """back: the gradient, instead of the outputs."""

    back: bool
    pools: str
    batch: int
    channels: int
    size: int
    stride: int

    def __str__(self) -> str:
        name = f"{self.pools}'s gradient" if self.back else self.pools
        return f"{name}: {self.batch} x {self.channels} x {self.size}^2, s{self.stride}"


CASES = [
    Pools(back, pools, 64, channels, size, stride)
    for back in (False, True)
    for pools in POOLS
    for channels, size in STAGES
    for stride in (1, 2)
]
QUICK = [Pools(back, "both", 16, 16, 32, 1) for back in (False, True)]

# back, average, maximum, the outputs' gradients, input, where the maxima are (torch keeps that),
# stride
Arguments = tuple[bool, bool, bool, Tensor, Tensor, Tensor, Tensor, int]


def ours(
    back: bool,
    average: bool,
    maximum: bool,
    grad_average: Tensor,
    grad_maximum: Tensor,
    input: Tensor,
    index: Tensor,
    stride: int,
) -> tuple[Tensor, ...]:
    if not back:
        return ops.pool3x3(input, stride, average=average, maximum=maximum)
    grads = grad_average if average else None, grad_maximum if maximum else None
    return (ops.pool3x3_backward(*grads, input, stride),)


def with_torch(
    back: bool,
    average: bool,
    maximum: bool,
    grad_average: Tensor,
    grad_maximum: Tensor,
    input: Tensor,
    index: Tensor,
    stride: int,
) -> tuple[Tensor, ...]:
    """What autograd calls; the gradients of both are added, as it does."""
    window = [3, 3], [stride] * 2, [1, 1]
    results: list[Tensor] = []
    if average and back:
        back_average = torch.ops.aten.avg_pool2d_backward
        results.append(back_average(grad_average, input, *window, False, False, None))
    elif average:
        results.append(avg_pool2d(input, *window, count_include_pad=False))
    if maximum and back:
        back_maximum = torch.ops.aten.max_pool2d_with_indices_backward
        results.append(back_maximum(grad_maximum, input, *window, [1, 1], False, index))
    elif maximum:
        results.append(torch.ops.aten.max_pool2d_with_indices(input, *window)[0])
    return (sum(results[1:], results[0]),) if back else tuple(results)


def in_numpy(
    back: bool,
    average: bool,
    maximum: bool,
    grad_average: np.ndarray,
    grad_maximum: np.ndarray,
    input: np.ndarray,
    index: np.ndarray,
    stride: int,
) -> tuple[np.ndarray, ...]:
    """Shift by shift; channels come last in memory."""
    x, grad_average, grad_maximum, index = (
        np.moveaxis(a, 1, 3) for a in (input, grad_average, grad_maximum, index)
    )
    height, width = x.shape[1:3]
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    shifts = [
        (slice(None), slice(i, i + height, stride), slice(j, j + width, stride))
        for i, j in np.ndindex(3, 3)
    ]
    ones = np.pad(np.ones_like(x[:1, ..., :1]), border)
    count = sum(ones[shift] for shift in shifts)
    if not back:
        results = []
        if average:
            padded = np.pad(x, border)
            results.append(sum(padded[shift] for shift in shifts) / count)
        if maximum:
            padded = np.pad(x, border, constant_values=-np.inf)
            results.append(np.max([padded[shift] for shift in shifts], axis=0))
        return tuple(np.moveaxis(result, 3, 1) for result in results)
    total = np.pad(np.zeros_like(x), border)
    numbers = np.pad(np.arange(height * width).reshape(1, height, width, 1), border)
    for shift in shifts:
        if average:
            total[shift] += grad_average / count
        if maximum:
            total[shift] += grad_maximum * (index == numbers[shift])
    return (np.moveaxis(total[:, 1:-1, 1:-1], 3, 1),)


def tensors(case: Pools, device: torch.device) -> Arguments:
    torch.manual_seed(0)
    size = (case.size - 1) // case.stride + 1
    grad_average, grad_maximum, x = (
        torch.randn(case.batch, case.channels, n, n, device=device).to(
            memory_format=torch.channels_last
        )
        for n in (size, size, case.size)
    )
    x = x.relu()  # with the ties of a search
    window = [3, 3], [case.stride] * 2, [1, 1]
    _, index = torch.ops.aten.max_pool2d_with_indices(x, *window)
    return case.back, *POOLS[case.pools], grad_average, grad_maximum, x, index, case.stride


def check(run: Callable[[], Any], arguments: Arguments) -> None:
    """To 1e-6 of the largest number, against float64; the maxima exactly."""
    back, average, maximum, grad_average, grad_maximum, x, _, stride = arguments
    if back:
        of_average = grad_average.double() if average else None
        of_maximum = grad_maximum.double() if maximum else None
        wanted = [reference.pool3x3_backward(of_average, of_maximum, x.double(), stride)]
    else:
        wanted = [*reference.pool3x3(x.double(), stride, average, maximum)]
    got = [torch.as_tensor(y).to(x.device).double() for y in run()]
    got = [y for y in got if y.numel()]
    wanted = [y for y in wanted if y.numel()]
    assert len(got) == len(wanted), f"{len(got)} results instead of {len(wanted)}"
    for value, exact in zip(got, wanted, strict=True):
        error = (value - exact).abs().max() / exact.abs().max()
        assert error <= 1e-6, f"off by {error:.1e}"
    if maximum and not back:
        assert torch.equal(got[-1], wanted[-1]), "a maximum is another number"


def moved(case: Pools, arguments: Arguments) -> int:
    """Numbers read and written at least."""
    _, average, maximum, grad_average, _, x, *_ = arguments
    pixels = x.numel() * (1 + maximum if case.back else 1)
    return pixels + grad_average.numel() * (average + maximum)


def work(case: Pools, device: torch.device) -> Work:
    arguments = tensors(case, device)
    numbers = moved(case, arguments)
    source, copy = (torch.ones(numbers // 2, device=device) for _ in range(2))
    return Work(
        calls=[arguments],
        check=partial(check, arguments=arguments),
        bytes=4 * numbers,
        floors={"copy": partial(copy.copy_, source)},
    )


BENCH = Bench(
    op="pool3x3",
    ours=ours,
    cases=CASES,
    quick_cases=QUICK,
    work=work,
    baselines={"tuned": with_torch},
    numpy=in_numpy,
    targets=[
        faster("both: 64 x 16 x 32^2, s1", "tuned", 5),
        faster("both's gradient: 64 x 16 x 32^2, s1", "tuned", 2),
    ],
)


def test_pool3x3(result, implementation, show):
    show(result, implementation)
