"""Prints what a search step launches, reads and writes, copies and waits for on a GPU: counted on a
machine without one (tests/fake_gpu.py), so no time is known.

    make gpu-counts             # or: python tools/gpu_counts.py
    make gpu-counts PEERS=DIR   # public code beside it, from the checkouts in DIR (bench/peers.py)

A step is an alpha step and a weight step at C=16 on images of 32x32. Bytes grow by as much with
each sample, so those of a large batch are known from those of two small ones.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bdp_ext.data import Augmentation, MemorySet
from bdp_ext.search import Search, SearchConfig

ROOT = Path(__file__).parents[1]
sys.path += [str(ROOT / "tests"), str(ROOT / "bench")]

import peers  # noqa: E402
from fake_gpu import Log, fake_gpu  # noqa: E402

CHANNELS, CLASSES, SMALL, BATCH = 16, 10, (2, 4), 64
SPACES = {  # space, method, cells
    "NAS-Bench-201, N=5": ("nas-bench-201", "darts", 5),
    "DARTS, 8 cells": ("darts", "darts", 8),
    "PC-DARTS, 8 cells": ("darts", "pc-darts", 8),
}
Step = Callable[[], object]


class Counts(NamedTuple):
    """Of one step."""

    kernels: int
    bytes: int
    waits: int
    blocking_copies: int


def images(batch: int, size: int = 32) -> MemorySet:
    """Random ones, enough for some steps."""
    samples = 16 * max(batch, CLASSES)
    labels = torch.arange(samples) % CLASSES
    pixels = torch.randint(256, (samples, 3, size, size), dtype=torch.uint8)
    names = tuple(map(str, range(CLASSES)))
    return MemorySet(labels, names, (0.5,) * 3, (0.2,) * 3, pixels, Augmentation(4, flip=True))


def our_step(space: str, method: str, cells: int, batch: int, size: int = 32, **settings) -> Step:
    """As `bdp search --device cuda` takes it, with alpha moving."""
    config = SearchConfig.of(
        **{"data": "cifar10", "device": "cuda", "channels": CHANNELS, "alpha_start": 0}
        | {"space": space, "method": method, "cells": cells, "batch_size": batch}
        | settings
    )
    return Search(config, images(batch, size)).step


def peer_step(space: str, method: str, cells: int, batch: int) -> Step | None:
    """As their search scripts take it: `backward()` for all parameters, twice."""
    net = peers.find(space, method, CHANNELS, cells)
    if net is None:
        return None
    net.network.cuda()
    x = torch.randn(batch, 3, 32, 32, device="cuda")
    target = torch.zeros(batch, dtype=torch.int64, device="cuda")
    adam = torch.optim.Adam(net.alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(net.weights, 0.025, momentum=0.9, weight_decay=3e-4)

    def step() -> None:
        adam.zero_grad()
        cross_entropy(net.logits(x), target).backward()
        adam.step()
        sgd.zero_grad()
        cross_entropy(net.logits(x), target).backward()
        nn.utils.clip_grad_norm_(net.weights, 5.0)
        sgd.step()

    return step


def second(log: Log, step: Step) -> Counts:
    """The second step's: the first one makes what optimisers keep."""
    step()
    log.clear()
    step()
    return Counts(log.kernels, log.bytes, len(log.waits), log.blocking_copies)


def count(make: Callable[[int], Step | None]) -> Counts | None:
    """A step at `BATCH`, of what makes one for a batch size."""
    found = []
    for batch in SMALL:
        with fake_gpu() as log:
            step = make(batch)
            if step is None:
                return None
            found.append(second(log, step))
    few, more = found
    a_sample = (more.bytes - few.bytes) // (SMALL[1] - SMALL[0])
    return more._replace(bytes=more.bytes + (BATCH - SMALL[1]) * a_sample)


def main() -> None:
    torch.set_num_threads(1)
    print(f"A step at C={CHANNELS}, batch {BATCH}, images of 32x32; counted, not timed.\n")
    print("| | who | launches | GB | host waits | blocking copies |\n|---|---|---|---|---|---|")
    for name, (space, method, cells) in SPACES.items():
        size = (space, method, cells)
        makers = {
            "ours, as a GPU search runs by default": lambda b, s=size: our_step(*s, b),
            "ours, `--no-amp`": lambda b, s=size: our_step(*s, b, amp=False),
            "public code, float32": lambda b, s=size: peer_step(*s, b),
        }
        for who, make in makers.items():
            counts = count(make)
            if counts is None:
                continue
            kernels, total, waits, copies = counts
            row = f"{kernels:,} | {total / 1e9:.1f} | {waits} | {copies}"
            print(f"| {name} | {who} | {row} |", flush=True)


if __name__ == "__main__":
    main()
