"""The search: how long a whole step takes, beside the readable supernet's, other people's and the
convolutions alone; and the share of scoring and selecting in its CPU time.

    pytest bench/bench_search.py
    pytest bench/bench_search.py --quick    # a small supernet, so a larger share
    PEERS=DIR pytest bench/bench_search.py -k supernet --clock cpu    # see peers.py

A step is an alpha step and a weight step, pruned every five epochs as by default. The images are
scikit-learn's digits (8 x 8): larger ones take longer, and scoring and selecting do not.

Two searches alternate that differ in who computes the operations. On a GPU the share is that of the
CPU, which only launches.
"""

import time
from contextlib import nullcontext
from functools import partial

import _supernets
import peers
import pytest
import torch
from _report import CLOCK
from _rounds import Result, faster, ours, within

from bdp_ext import backend, build_info
from bdp_ext.data import load
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search

STEPS, QUICK_STEPS = 140, 75  # both levels are pruned three times, and once
QUICK = {"channels": 4, "cells": 3}

pytestmark = pytest.mark.benchmark(timer=CLOCK)


def implementations(device: str) -> dict[str, partial]:
    """The plain one, and the one that a search gets, with what chooses it."""
    owner = build_info()["operations"]["update_voe_"][device]
    chosen = {"compiled": device}.get(owner, owner)
    return {"reference": partial(backend, "reference"), chosen: nullcontext}


def run(space: str, settings) -> Result:
    config = SearchConfig.of(
        space=space,
        data="digits",
        device=settings.device.type,
        threads=settings.threads,
        **(QUICK if settings.quick else {}),
    )
    contexts = implementations(settings.device.type)
    searches = {name: Search(config, load(config.data)) for name in contexts}
    cpu = dict.fromkeys(contexts, 0.0)
    clock = time.process_time if settings.clock == "cpu" else time.perf_counter
    result = Result("search", f"{space}, a step", seconds={name: [] for name in contexts})
    for _ in range(QUICK_STEPS if settings.quick else STEPS):
        for name, search in searches.items():
            start = time.process_time()
            with contexts[name]():
                begin = clock()
                search.step()
                if settings.device.type == "cuda":
                    torch.cuda.synchronize()
                result.seconds[name].append(clock() - begin)
                if search.epoch_done:
                    search.end_epoch()
            cpu[name] += time.process_time() - start

    check(searches)
    for name, search in searches.items():
        spent = search.spent()
        for part in ("scoring", "selecting"):
            result.extra[f"{part}, {name}"] = f"{spent[part] / cpu[name]:.3%}"
    return result


def check(searches: dict[str, Search]) -> None:
    """Both levels were pruned, and those of both searches alike."""
    sizes = [
        [(row["level"], row["epoch"], row["after"]) for row in search.prunings()]
        for search in searches.values()
    ]
    assert {level for level, _, _ in sizes[0]} == {"train", "valid"}
    assert sizes[0] == sizes[-1]


@pytest.fixture(scope="module", params=["nas-bench-201", "darts"])
def searched(request, settings, report):
    result = run(request.param, settings)
    report.add(result)
    return result


@pytest.mark.parametrize("implementation", ["reference", "ours"])
def test_step(searched, implementation, show):
    show(searched, ours(searched.seconds) if implementation == "ours" else implementation)


SUPERNETS = [  # space, method, channels, cells, batch
    ("nas-bench-201", "darts", 16, 5, 64),
    ("nas-bench-201", "beta-darts", 16, 5, 64),
    ("darts", "darts", 16, 8, 16),
    ("darts", "darts", 16, 8, 64),
    ("darts", "pc-darts", 16, 8, 64),
]
QUICK_SUPERNETS = [("nas-bench-201", "darts", 8, 1, 16), ("darts", "darts", 4, 3, 16)]
CONVOLUTIONS = {"nas-bench-201": 1.3, "darts": 1.0}  # ours may take so many times as long


def supernet_case(size: tuple) -> str:
    space, method, channels, cells, batch = size
    return f"{space} {method}, C={channels}, {cells} cells, batch {batch}"


SUPERNET_TARGETS = [
    target
    for size in SUPERNETS
    for target in (
        faster(supernet_case(size), "peer", 4),
        faster(supernet_case(size), "peer, channels_last", 2.5),
        within(supernet_case(size), "convolutions", CONVOLUTIONS[size[0]]),
    )
]


def measure_supernets(size: tuple, settings) -> Result:
    steps = _supernets.all_steps(*size)
    clock = time.process_time if settings.clock == "cpu" else time.perf_counter
    result = Result(
        "step", supernet_case(size), seconds={name: [] for name in steps}, floors=["convolutions"]
    )
    for turn in range(1 if settings.quick else 3):
        for name, step in steps.items():
            begin = clock()
            step()
            if turn or settings.quick:  # the first one is for warming up
                result.seconds[name].append(clock() - begin)
    if peers.folder() is None:
        result.absent["peer"] = "set PEERS to a folder of checkouts (bench/peers.py)"
    for name in steps:
        if name != "convolutions":
            result.extra[f"peak MB, {name}"] = f"{_supernets.peak(name, *size):.0f}"
    return result


@pytest.fixture(
    scope="module",
    params=SUPERNETS + QUICK_SUPERNETS,
    ids=supernet_case,
)
def supernets(request, settings, report):
    if settings.device.type != "cpu" or (request.param in QUICK_SUPERNETS) != settings.quick:
        pytest.skip("not of this size or device")
    result = measure_supernets(request.param, settings)
    report.add(result, SUPERNET_TARGETS)
    return result


@pytest.mark.parametrize("implementation", ["peer", "peer, channels_last", "readable", "cpu"])
def test_supernet(supernets, implementation, show):
    if implementation not in supernets.seconds and implementation not in supernets.absent:
        pytest.skip("no checkout of this peer")
    show(supernets, implementation)
