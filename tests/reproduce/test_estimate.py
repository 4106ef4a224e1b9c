"""What a run costs, before it runs."""

from unittest.mock import Mock

import pytest

from bdp_ext.data import load
from bdp_ext.reproduce.estimate import estimate_search, level_sizes, search_samples
from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.plan import runs_of
from bdp_ext.reproduce.scale import DataSize
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search
from bdp_ext.search.run import run

from .common import SCALES, TINY


def test_control_of_the_same_cost_costs_the_same():
    for scale in SCALES.values():
        runs = {r.name: r for r in runs_of([EXPERIMENTS["fig4"](scale)], scale, 1)}
        pruned = runs["darts-cifar10-bdp-0"].estimate().samples
        shorter = runs["darts-cifar10-unpruned-epochs=16-0"].estimate().samples
        assert shorter == pytest.approx(pruned, rel=0.02)
        assert pruned < 0.5 * runs["darts-cifar10-unpruned-0"].estimate().samples


@pytest.mark.parametrize("bdp", [True, False])
def test_estimate_is_what_a_run_takes(tmp_path, bdp):
    config = SearchConfig.of(
        **{**TINY, "cells": 1, "bdp": bdp, "criterion": "random", "balance": "none"}
    )
    result = run(config, tmp_path, resume=False, observer=Mock())
    estimate = estimate_search(config, DataSize(1437, 10, 8))
    assert estimate.epochs == 5
    assert estimate.samples == sum(result["samples"].values()) == search_samples(config, 200)
    search = Search(config, load("digits", image_size=8, limit=200))
    weights = sum(parameter.numel() for parameter in search.supernet.parameters())
    assert 8 * weights < estimate.disk < (tmp_path / "checkpoint.pt").stat().st_size


def test_one_shot_pruning_halves_both_levels_after_five_epochs():
    scale = SCALES["paper"]
    runs = {run.name: run for run in runs_of([EXPERIMENTS["table2"](scale)], scale, 1)}
    name = "darts-cifar10-el2n-criterion=high-low-keep-train=0.5-keep-valid=0.5-0"
    sizes = level_sizes(SearchConfig.of(**runs[name].options), 50_000)
    assert sizes == {level: [25_000] * 5 + [12_500] * 45 for level in ("train", "valid")}
    shorter = runs["darts-cifar10-unpruned-epochs=28-0"]
    assert shorter.estimate().samples == pytest.approx(runs[name].estimate().samples, rel=0.02)
