"""el2n: the errors of a batch, beside softmax - onehot as users write it."""

from dataclasses import dataclass

import numpy as np
import torch
from _rounds import Bench, Work, close
from torch import Tensor

from bdp_ext import ops
from bdp_ext.ops import reference


@dataclass(frozen=True)
class Batch:
    rows: int
    classes: int

    def __str__(self) -> str:
        return f"{self.rows} x {self.classes}"


CASES = [Batch(rows, classes) for classes in (10, 100, 1000, 21841) for rows in (96, 1024)]
QUICK = [Batch(96, 10), Batch(96, 1000), Batch(1024, 1000)]


def eager(logits: Tensor, target: Tensor) -> Tensor:
    """Without a one-hot matrix. torch's softmax takes a row at a time, which is slow for short
    ones: there its parts are 1.6x faster at 96 x 10 and 3.6x at 1024 x 10."""
    if logits.shape[1] <= 16:
        error = (logits - logits.amax(1, keepdim=True)).exp_()
        error /= error.sum(1, keepdim=True)
    else:
        error = logits.softmax(1)
    error.scatter_add_(1, target.unsqueeze(1), error.new_full((len(target), 1), -1.0))
    return torch.linalg.vector_norm(error, dim=1)


def in_numpy(logits: np.ndarray, target: np.ndarray) -> np.ndarray:
    error = np.exp(logits - logits.max(1, keepdims=True))
    error /= error.sum(1, keepdims=True)
    error[np.arange(len(target)), target] -= 1
    return np.linalg.norm(error, axis=1)


def batch(case: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Logits and targets of a network that has learnt something."""
    torch.manual_seed(0)
    logits = torch.randn(case.rows, case.classes)
    target = torch.randint(case.classes, (case.rows,))
    logits[torch.arange(case.rows), target] += 3
    return logits.to(device), target.to(device)


def work(case: Batch, device: torch.device) -> Work:
    logits, target = batch(case, device)
    expected = reference.el2n(logits, target)  # float64 inside
    return Work([(logits, target)], check=lambda run: close(run(), expected))


BENCH = Bench(
    op="el2n",
    ours=ops.el2n,
    cases=CASES,
    quick_cases=QUICK,
    work=work,
    eager=eager,
    numpy=in_numpy,
)


def test_el2n(case, compare):
    compare(BENCH, case)
