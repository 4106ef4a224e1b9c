"""The search: how long a whole step takes, and the share of scoring and selecting in its CPU time.

    pytest bench/bench_search.py
    pytest bench/bench_search.py --quick    # a small supernet, so a larger share

A step is an alpha step and a weight step, pruned every five epochs as by default. The images are
scikit-learn's digits (8 x 8): larger ones take longer, and scoring and selecting do not.

Two searches alternate that differ in who computes the operations. On a GPU the share is that of the
CPU, which only launches.
"""

import time
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from _report import CLOCK
from _rounds import Result, ours

from bdp_ext import backend, build_info
from bdp_ext.config import SearchConfig
from bdp_ext.data import load
from bdp_ext.search import Search

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
