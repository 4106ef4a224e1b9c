"""capped_topk: the samples that one pruning takes (30 %, every class within its cap), beside the
sorts of a good user."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from _rounds import Bench, Work
from torch import Tensor

from bdp_ext import ops
from bdp_ext.ops import reference

RATIO = 0.3


@dataclass(frozen=True)
class Level:
    samples: int
    classes: int
    sorted: bool

    def __str__(self) -> str:
        order = "class-sorted" if self.sorted else "unsorted"
        return f"{self.samples:,} / {self.classes}, {order}"


CASES = [
    Level(samples, classes, order)
    for samples in (50_000, 1_280_000, 14_000_000)
    for classes in (10, 1000, 21841)
    for order in (False, True)
]
QUICK = [Level(50_000, 10, False), Level(50_000, 10, True), Level(1_280_000, 1000, False)]


def eager(score: Tensor, label: Tensor, cap: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """One sort of integers that hold class and score (scores are >= 0, so their bits are in
    order), then one of what the caps leave: 1.3x faster than sorting scores, then classes."""
    by_class = (label.long() << 32 | score.view(torch.int32)).argsort(stable=True)
    count = label.long().bincount(minlength=len(cap))
    start = count.cumsum(0) - count
    rank = torch.arange(len(score), device=score.device) - start.repeat_interleave(count)
    inside = by_class[rank < cap.repeat_interleave(count)].sort().values
    taken = inside[score[inside].argsort(stable=True)[:k]]
    mask = torch.zeros_like(score, dtype=torch.bool)
    mask[taken] = True
    return mask, torch.tensor(len(taken))


def in_numpy(
    score: np.ndarray, label: np.ndarray, cap: np.ndarray, k: int
) -> tuple[np.ndarray, int]:
    """numpy has a radix sort for int16, so classes are sorted on their own."""
    order = score.argsort(kind="stable")
    by_class = label[order].argsort(kind="stable")
    count = np.bincount(label, minlength=len(cap))
    end = count.cumsum() - count + np.minimum(cap, count)
    inside = np.empty(len(score), dtype=bool)
    inside[by_class] = np.arange(len(score)) < end.repeat(count)
    taken = order[inside][:k]
    mask = np.zeros(len(score), dtype=bool)
    mask[taken] = True
    return mask, len(taken)


def work(case: Level, device: torch.device) -> Work:
    torch.manual_seed(0)
    label = torch.randint(case.classes, (case.samples,), dtype=torch.int16)
    if case.sorted:
        label = label.sort().values
    # Like variances, most are small. Classes differ, so that the caps of some of them bind.
    hardness = 0.5 + torch.rand(case.classes)
    score = torch.rand(case.samples).square() * hardness[label.long()]
    cap = (label.long().bincount(minlength=case.classes) * (RATIO + 0.05)).long()
    score, label, cap = score.to(device), label.to(device), cap.to(device)
    k = int(RATIO * case.samples)
    expected, number = reference.capped_topk(score, label, cap, k, False)

    def check(run) -> None:
        mask, taken = run()
        assert int(taken) == int(number), f"took {int(taken)} instead of {int(number)}"
        differing = (torch.as_tensor(mask, device=device) != expected).sum()
        assert not differing, f"{int(differing)} samples differ"

    return Work([(score, label, cap, k)], check)


BENCH = Bench(
    op="capped_topk",
    ours=partial(ops.capped_topk, largest=False),
    cases=CASES,
    quick_cases=QUICK,
    work=work,
    eager=eager,
    numpy=in_numpy,
)


def test_capped_topk(case, compare):
    compare(BENCH, case)
