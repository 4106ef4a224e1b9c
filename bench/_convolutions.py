"""What the benches of the convolutions share: the check, and the floors."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from _rounds import Work
from torch import Tensor

from bdp_ext.ops import reference

NEEDS = {"input": (True, False), "weight": (False, True), "both": (True, True)}


def check(op: str, run: Callable[[], Any], arguments: tuple[Any, ...]) -> None:
    """To 1e-5 of the largest number, against float64."""
    wanted, *operands = arguments
    grad, x, weight, *geometry = (a.double() if isinstance(a, Tensor) else a for a in operands)
    got = run()
    if wanted == "output":
        pairs = [(got, getattr(reference, op)(x, weight, *geometry))]
    else:
        needs = NEEDS[wanted]
        expected = getattr(reference, f"{op}_backward")(grad, x, weight, *geometry, *needs)
        pairs = [(got[i], expected[i]) for i in range(2) if needs[i]]
    for value, exact in pairs:
        error = (torch.as_tensor(value).to(exact) - exact).abs().max() / exact.abs().max()
        assert error <= 1e-5, f"off by {error:.1e}"


def work(op: str, arguments: tuple[Any, ...], products: int) -> Work:
    """Floors: what must be read and written, and as many products as a matrix multiplication does
    them.

    Args:
        arguments: what is wanted, the output's gradient, the input, and more.
        products: of the output, or of one gradient.
    """
    wanted, grad, x, *_ = arguments
    passes = 2 if wanted == "both" else 1
    moved = grad.numel() + passes * x.numel()
    source, copy = x.new_ones(moved // 2), x.new_empty(moved // 2)
    square = x.new_ones(256, 256)
    rows = x.new_ones(passes * products // 256**2, 256)
    return Work(
        calls=[arguments],
        check=partial(check, op, arguments=arguments),
        bytes=4 * moved,
        floors={
            "copy": partial(copy.copy_, source),
            "matrix product": partial(torch.mm, rows, square, out=torch.empty_like(rows)),
        },
    )
