"""The bi-level loop: counts to the sample, the right scores, the same again from a saved state."""

import io

import pytest
import torch
from jobs import finish

from bdp_ext import ops
from bdp_ext.data import load
from bdp_ext.pruning import samples_drawn
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search

SMALL = {
    "epochs": 7,
    "interval": 2,
    "channels": 2,
    "cells": 1,
    "batch_size": 32,
    "limit_train": 300,
    "keep_train": 0.2,
    "keep_valid": 0.3,
}


@pytest.fixture(scope="module")
def digits():
    return load("digits", limit=300)


def make(digits, **options) -> Search:
    return Search(SearchConfig(**{**SMALL, **options}), digits)


def test_counted_samples_are_those_of_the_sizes(digits):
    search = finish(make(digits))
    train = [record["train"] for record in search.history]
    assert train[:3] == [150, 150, 88]  # 150 * .2^(1/3)
    assert search.samples()["train"] == sum(size - (size % 32 == 1) for size in train)
    assert search.samples_unpruned() == {
        "train": 7 * 150,
        "valid": samples_drawn(150, 32, 7 * 5),
    }
    # The validation level gives a batch a step, whatever its size: as many as the training level
    # has.
    assert search.steps == sum(-(-size // 32) - (size % 32 == 1) for size in train)
    sizes = {(row["level"], row["epoch"]): row["after"] for row in search.prunings()}
    for level in ("train", "valid"):
        after = [sizes[level, epoch] for epoch in (2, 4, 6)]
        assert after == [search.history[epoch][level] for epoch in (2, 4, 6)]


def test_without_pruning_nothing_is_saved(digits):
    search = finish(make(digits, bdp=False, keep_train=None, keep_valid=None, epochs=2))
    assert search.samples() == search.samples_unpruned()
    assert search.prunings() == []
    assert [record["train"] for record in search.history] == [150, 150]


def test_unequal_halves_cycle_the_smaller_level(digits):
    search = finish(make(digits, train_share=0.8, bdp=False, keep_train=None, keep_valid=None))
    assert search.train.samples.numel() == 240
    assert search.samples() == search.samples_unpruned()
    assert search.samples()["valid"] > 7 * 60


def test_scores_are_those_of_the_first_pass_of_the_epoch(digits):
    search = make(digits)
    expected = {name: torch.full((150,), float("nan")) for name in search.levels}
    for name, level in search.levels.items():
        observe = level.observe

        def note(batch, loss, name=name, observe=observe):
            scores = ops.el2n(loss.logits, batch.target)
            first = expected[name][batch.index].isnan()
            expected[name][batch.index[first]] = scores[first]
            observe(batch, loss)

        level.observe = note
    while not search.epoch_done:
        search.step()
    for name, level in search.levels.items():
        recorded = level.pruner.window.scores[0]
        assert torch.equal(recorded.nan_to_num(9), expected[name].nan_to_num(9))
        assert torch.equal(level.labels, digits.labels[level.samples])
    assert not search.train.pruner.window.scores[0].isnan().any()


def test_each_step_moves_its_own_parameters_only(digits):
    search = make(digits)
    calls = []
    step = search.precision.step

    def watch(gradients, parameters, optimizer, clip=None):
        before = [parameter.detach().clone() for parameter in search.supernet.parameters()]
        step(gradients, parameters, optimizer, clip)
        own = {id(parameter) for parameter in parameters}
        for old, parameter in zip(before, search.supernet.parameters(), strict=True):
            assert torch.equal(old, parameter) == (id(parameter) not in own)
        calls.append(clip)

    search.precision.step = watch
    search.step()
    assert calls == [None, 5.0]


def test_pruned_samples_are_never_drawn_again(digits):
    search, drawn = make(digits), []
    while not search.done:
        for level in search.levels.values():
            assert torch.isin(level.sampler._pending, level.pruner.live).all()
        search.step()
        if search.epoch_done:
            search.end_epoch()
        drawn.append(search.train.size)
    assert drawn[-1] == 30


def test_same_seed_same_search_other_seed_other_split(digits):
    one, same, other = (finish(make(digits, seed=seed)) for seed in (0, 0, 1))
    assert one.history == same.history
    assert one.prunings() == same.prunings()
    assert not torch.equal(one.train.samples, other.train.samples)
    assert one.alpha != other.alpha


@pytest.mark.parametrize("steps", [3, 11])  # both in mid-epoch, before and after a pruning
def test_saved_state_goes_on_to_the_same_end(digits, steps):
    whole, stopped = finish(make(digits)), make(digits)
    for _ in range(steps):
        stopped.step()
        if stopped.epoch_done:
            stopped.end_epoch()
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = make(digits)
    torch.randn(100)  # the global generator is no part of it
    resumed.load_state_dict(torch.load(file, weights_only=True))
    finish(resumed)
    assert resumed.history == whole.history
    assert resumed.prunings() == whole.prunings()
    assert resumed.samples() == whole.samples()


def test_mixed_precision_finds_a_cell_too(digits):
    search = finish(make(digits, amp=True, epochs=3, device="cpu"))
    assert search.history[-1]["train_loss"] < search.history[0]["train_loss"]
    assert not search.train.pruner.window.scores.isnan().all()
