"""What `bdp_ext.prune` costs a search step: the hook and the bookkeeping, on one CPU thread.

    pytest bench/bench_dropin.py -s

A step of a search is timed without its network, so that what `bdp_ext.prune` adds is not lost in
the noise of that: draw a batch of either level, call the criterion on logits of 64 x 10, go
backward. Plain and pruned epochs alternate in one process. What is added must be under .1 % of a
step of the DARTS space's supernet here (C=16, 8 cells, batch 64), which is faster than
quark0/darts' own. In a loop that copies its batches, as one on a GPU does, their labels must be
found again.
"""

import statistics
import time
from functools import cache

import _supernets
import pytest
import torch
from _rounds import Implementation, alternate
from torch import nn
from torch.utils.data import DataLoader, Dataset, SequentialSampler

import bdp_ext

BATCH, CLASSES, STEPS = 64, 10, 200
LARGEST_SHARE = 1e-3


class Ready(Dataset):
    """Batches that cost nothing to load."""

    def __init__(self, samples: int) -> None:
        self.targets = torch.randint(CLASSES, (samples,))
        self.image = torch.zeros(BATCH, 1)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitems__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.image, self.targets[index]


class Loop:
    """An epoch of a search without its network."""

    def __init__(self, pruned: bool, copied: bool = False) -> None:
        torch.manual_seed(0)
        self.copied = copied
        sets = [Ready(STEPS * BATCH) for _ in range(2)]
        self.queues = [
            DataLoader(data, BATCH, sampler=SequentialSampler(data), collate_fn=lambda batch: batch)
            for data in sets
        ]
        self.criterion = nn.CrossEntropyLoss()
        if pruned:  # nothing is taken away: both loops make as many steps
            self.queues = bdp_ext.prune(
                *self.queues, self.criterion, epochs=10_000, prune_train=0, prune_valid=0
            )
        self.weight = torch.zeros(CLASSES, requires_grad=True)
        self.features = torch.randn(BATCH, CLASSES)

    def __call__(self) -> None:
        train, valid = self.queues
        for batch, search in zip(train, valid, strict=True):
            for _, target in (search, batch):
                if self.copied:
                    target = target.clone()
                self.criterion(self.features + self.weight, target).backward()


def step_and_difference(copied: bool = False) -> tuple[float, float]:
    """Seconds of a step without its network, and what pruning adds to it."""
    plain, pruned = Loop(False, copied), Loop(True, copied)
    pruned()
    check(pruned)
    loops = {"plain": Implementation(plain), "pruned": Implementation(pruned)}
    found = alternate(loops, 15, time.process_time)
    added = [more - one for one, more in zip(*found.values(), strict=True)]
    return statistics.median(found["plain"]) / STEPS, statistics.median(added) / STEPS


def check(pruned: Loop) -> None:
    """Every sample has been scored, and rightly."""
    pruner = pruned.queues[0].pruner
    assert pruner.epoch == 1
    for level in pruner.levels.values():
        expected = bdp_ext.ops.el2n(pruned.features.repeat(STEPS, 1), level.labels)
        assert torch.equal(level.pruner.window.scores[0], expected)


@cache
def supernet_step() -> float:
    """CPU seconds."""
    step = _supernets.our_step(("darts", "darts", 16, 8, BATCH))
    return statistics.median(alternate({"": Implementation(step)}, 3, time.process_time)[""])


@pytest.mark.parametrize("copied", [False, True], ids=["as drawn", "copied"])
def test_share_of_a_search_step(capsys, copied):
    whole = supernet_step()
    step, more = step_and_difference(copied)
    with capsys.disabled():
        print(
            f"\ntorch {torch.__version__}, {torch.get_num_threads()} thread, CPU time, batches "
            f"{'copied' if copied else 'as drawn'}: a step without its network {step * 1e6:.0f} "
            f"us, with bdp_ext.prune {more * 1e6:+.0f} us (median of 15 alternating epochs), "
            f"{more / whole:.4%} of a step of the DARTS supernet (C=16, 8 cells, batch {BATCH}; "
            f"{whole:.1f} s)"
        )
    assert more < LARGEST_SHARE * whole
