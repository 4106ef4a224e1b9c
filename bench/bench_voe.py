"""voe: the variance of every sample's last ten errors, beside torch's own var."""

from dataclasses import dataclass

import numpy as np
import torch
from _rounds import Bench, Work, close, faster, two_threads, within
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


def eager_var(window: Tensor) -> Tensor:
    return window.var(0, correction=0)


def tuned(window: Tensor) -> Tensor:
    """The parts of var, which torch computes faster than the whole; one copy of the ring."""
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
    return Work(
        calls=[(window,)],
        check=lambda run: close(run(), expected),
        bytes=case.samples * (LENGTH + 1) * 4,
        floors={"read the ring": window.sum},
    )


BENCH = Bench(
    op="voe",
    ours=ops.voe,
    cases=[Ring(50_000), Ring(1_280_000), Ring(14_000_000)],
    quick_cases=[Ring(50_000), Ring(1_280_000)],
    work=work,
    baselines={"eager var": eager_var, "tuned": tuned},
    numpy=in_numpy,
    targets=[
        faster("14,000,000 x 10", "eager var", 50),
        within("14,000,000 x 10", "read the ring", 1.15),
        two_threads("14,000,000 x 10"),
    ],
)


def test_voe(result, implementation, show):
    show(result, implementation)
