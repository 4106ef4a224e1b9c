"""What each operation of the supernets gives a whole search step: all of them on, against all but
one, as a markdown table.

    python bench/operations.py > table.md    # one thread, about a quarter of an hour

Both take turns in one process, every supernet is built once, and a ratio is that of two steps that
follow each other. Without an operation a step computes what the search would if it were gone:
torch's own, in the fastest form that was found.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from unittest.mock import patch

import _supernets
import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from bdp_ext import ops
from bdp_ext.spaces import conv3x3, depthwise

SUPERNETS = [  # space, method, channels, cells, batch
    ("nas-bench-201", "darts", 16, 5, 64),
    ("darts", "darts", 16, 8, 16),
    ("darts", "darts", 16, 8, 64),
    ("darts", "pc-darts", 16, 8, 64),
]
Off = Callable[[], AbstractContextManager[object]]


def never(*_: object) -> bool:
    return False


def weighted_norms(
    inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float = 1e-5
) -> Tensor:
    """The weight is the batch norm's scale, so that no normalised value is kept."""
    total: Tensor | None = None
    for x, scale, norm in zip(inputs, weight, normed, strict=True):
        gamma = scale.repeat(x.shape[1])  # not expand: torch 2.14's backward takes its stride for 1
        y = batch_norm(x, None, None, gamma, None, True, eps=eps) if norm else scale * x
        total = y if total is None else total.add_(y)
    return total


class NormRelu:
    """torch's batch norm and ReLU, with backward's half of them."""

    def forward(self, x: Tensor, eps: float = 1e-5) -> Tensor:
        return batch_norm(x, None, None, None, None, True, eps=eps).relu_()

    def with_moments(self, x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
        y, mean, rstd = torch.native_batch_norm(x, None, None, None, None, True, 0.1, eps)
        self.y = y.relu_()
        return self.y, mean, rstd

    def backward(self, grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> Tensor:
        passed = torch.ops.aten.threshold_backward(grad, self.y, 0)
        found: Tensor = torch.ops.aten.native_batch_norm_backward(
            *(passed, x, None, None, None, mean, rstd, True, eps), [True, False, False]
        )[0]
        return found


def no_norm_relu() -> AbstractContextManager[object]:
    instead, stack = NormRelu(), ExitStack()
    stack.enter_context(patch.object(ops, "norm_relu", instead.forward))
    stack.enter_context(patch.object(ops, "norm_relu_with_moments", instead.with_moments))
    stack.enter_context(patch.object(ops, "norm_relu_backward", instead.backward))
    return stack


OFF: dict[str, Off] = {
    "conv3x3": lambda: patch.object(conv3x3, "_wins", never),
    "depthwise_conv2d": lambda: patch.object(depthwise, "_is_ours", never),
    "norm_relu": no_norm_relu,
    "node_sum": lambda: patch.object(ops, "node_sum", weighted_norms),
}
USED = {
    "nas-bench-201": ("conv3x3", "node_sum"),
    "darts": ("depthwise_conv2d", "norm_relu", "node_sum"),
}


def seconds(step: Callable[[], object]) -> float:
    begin = time.process_time()
    step()
    return time.process_time() - begin


def measure(size: tuple, rounds: int) -> tuple[float, dict[str, list[float]]]:
    """Seconds of a step with all operations, and how many times as long it takes without one."""
    step = _supernets.our_step(*size, fused=True)
    step()
    whole = []
    ratios: dict[str, list[float]] = {op: [] for op in USED[size[0]]}
    for turn in range(rounds + 1):  # the first one is for warming up
        for op, found in ratios.items():
            spent = {}
            for on in (True, False) if turn % 2 else (False, True):
                if on:
                    spent[on] = seconds(step)
                else:
                    with OFF[op]():
                        spent[on] = seconds(step)
            if turn:
                whole.append(spent[True])
                found.append(spent[False] / spent[True])
    return statistics.median(whole), ratios


def cell(ratios: list[float] | None) -> str:
    if ratios is None:
        return "-"
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def row(size: tuple, rounds: int) -> str:
    space, method, channels, cells, batch = size
    whole, ratios = measure(size, rounds)
    name = f"{space} {method}, C={channels}, {cells} cells, batch {batch}"
    return " | ".join([f"| {name}", f"{whole:.2f}", *(cell(ratios.get(op)) for op in OFF)]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print("| supernet | a step, CPU s |" + "".join(f" {op} |" for op in OFF))
    print("|---|---:|" + "---|" * len(OFF))
    for size in SUPERNETS:
        print(row(size, rounds), flush=True)


if __name__ == "__main__":
    main()
