"""voe: the variance of every sample's last ten errors, beside the parts of torch's var."""

from dataclasses import dataclass

import numpy as np
import torch
from _rounds import Bench, Work, close
from torch import Tensor

from bdp_ext import ops
from bdp_ext.ops import reference

LENGTH = 10
CHUNK = 1_000_000


@dataclass(frozen=True)
class Ring:
    samples: int

    def __str__(self) -> str:
        return f"{self.samples:,} x {LENGTH}"


def eager(window: Tensor) -> Tensor:
    """torch computes them faster than the whole; one copy of the ring."""
    deviation = window - window.mean(0)
    return deviation.square_().mean(0)


def in_numpy(window: np.ndarray) -> np.ndarray:
    return window.var(axis=0)


def work(case: Ring, device: torch.device) -> Work:
    torch.manual_seed(0)
    window = torch.rand(LENGTH, case.samples, device=device)
    # In float64; in chunks, because that takes several times the ring.
    expected = torch.cat(
        [reference.voe(chunk.double()).float() for chunk in window.split(CHUNK, dim=1)]
    )
    return Work([(window,)], check=lambda run: close(run(), expected))


BENCH = Bench(
    op="voe",
    ours=ops.voe,
    cases=[Ring(50_000), Ring(1_280_000), Ring(14_000_000)],
    quick_cases=[Ring(50_000), Ring(1_280_000)],
    work=work,
    eager=eager,
    numpy=in_numpy,
)


def test_voe(case, compare):
    compare(BENCH, case)
