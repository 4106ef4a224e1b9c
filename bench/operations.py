"""What each operation of the supernets gives a whole search step: all of them on, against all but
one, as a markdown table.

    python bench/operations.py > table.md    # one thread, about a quarter of an hour

All take turns in one process, every supernet is built once, and a ratio is that of two steps of a
round. Without an operation a step computes what the search would if it were gone: torch's own, in
the fastest form that was found.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from unittest.mock import patch

import _supernets
import torch
from _report import spread
from _rounds import Implementation, alternate
from _supernets import Size
from bench_node_sum import weighted_norms
from torch import Tensor
from torch.nn.functional import batch_norm

from bdp_ext import ops
from bdp_ext.spaces import conv3x3, depthwise

SUPERNETS: list[Size] = [
    ("nas-bench-201", "darts", 16, 5, 64),
    ("darts", "darts", 16, 8, 16),
    ("darts", "darts", 16, 8, 64),
    ("darts", "pc-darts", 16, 8, 64),
]
Off = Callable[[], AbstractContextManager[object]]


def never(*_: object) -> bool:
    return False


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
    instead = NormRelu()
    return patch.multiple(
        ops,
        norm_relu=instead.forward,
        norm_relu_with_moments=instead.with_moments,
        norm_relu_backward=instead.backward,
    )


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


def row(size: Size, rounds: int) -> str:
    """Seconds of a step with all operations, and how many times as long it takes without one."""
    step = _supernets.our_step(size)
    off = {op: Implementation(step, OFF[op]) for op in USED[size[0]]}
    found = alternate({"all": Implementation(step), **off}, rounds, time.process_time)
    whole = f"{statistics.median(found['all']):.2f}"
    cells = [spread(found[op], found["all"]) if op in off else "-" for op in OFF]
    return f"| {' | '.join([_supernets.title(size), whole, *cells])} |"


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
