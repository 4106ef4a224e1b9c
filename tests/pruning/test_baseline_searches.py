"""Every pruner in a small search: sizes on schedule, its cost counted, the same again from a saved
state."""

import io
import json

import pytest
import torch
from jobs import finish
from torch import nn
from torch.nn.functional import cross_entropy

from bdp_ext.data import load
from bdp_ext.errors import UserError
from bdp_ext.methods import Batch
from bdp_ext.pruning.baselines import PRUNERS
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.features import Features
from bdp_ext.search.loop import Search
from bdp_ext.search.run import make_result

SMALL = {
    "epochs": 4,
    "interval": 2,
    "channels": 2,
    "cells": 1,
    "batch_size": 32,
    "limit_train": 200,
    "keep_train": 0.4,
    "keep_valid": 0.5,
    "device": "cpu",
}
EXTRA = {"entropy": (100, 100), "k-center": (100, 100), "glister": (100, 100)}
"""Samples that each level forwards for the pruner alone."""


@pytest.fixture(scope="module")
def digits():
    return load("digits", limit=200)


def make(digits, **options) -> Search:
    return Search(SearchConfig.of(**{**SMALL, **options}), digits)


def sizes(search: Search, level: str) -> list[int]:
    return [record[level] for record in search.history]


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name not in ("none", "infobatch")])
def test_every_pruner_prunes_on_schedule_and_counts_what_it_costs(digits, pruner):
    search = finish(make(digits, pruner=pruner))
    assert sizes(search, "train") == [100, 100, 40, 40]
    assert sizes(search, "valid") == [100, 100, 50, 50]
    assert search.samples()["train"] == 100 + 100 + 40 + 40
    train, valid = EXTRA.get(pruner, (0, 0))
    assert search.samples_extra() == {"train": train, "valid": valid}
    result = make_result(search)
    assert result["pruner"] == pruner
    forwarded = sum(result["samples"].values()) + train + valid
    assert result["cost_saved"] == 1 - forwarded / sum(result["samples_unpruned"].values())
    seconds = result["seconds"]
    assert (seconds["passes"] > 0) == (train > 0)
    assert seconds["selecting"] > 0
    assert json.dumps(result)


def test_infobatch_leaves_out_others_each_epoch_and_ends_with_all(digits):
    search = make(digits, pruner="infobatch", epochs=8, keep_train=None, prune_train=0.5)
    weights = []
    while not search.done:
        search.step()
        weights.append(search._train_batch.weight)
        if search.epoch_done:
            search.end_epoch()
    train = sizes(search, "train")
    assert train[0] == train[-1] == 100
    assert all(50 <= size < 100 for size in train[1:-1])
    assert {round(float(w), 1) for weight in weights for w in weight} >= {1.0, 2.0}
    assert sorted({row["epoch"] for row in search.prunings()}) == list(range(1, 8))


@pytest.mark.parametrize("pruner", [name for name in PRUNERS if name != "none"])
@pytest.mark.parametrize("epoch", [1, 2])  # before and after the first pruning
def test_saved_state_goes_on_to_the_same_end(digits, pruner, epoch):
    whole, stopped = make(digits, pruner=pruner), make(digits, pruner=pruner)
    finish(whole)
    while stopped.epoch < epoch:
        stopped.step()
        if stopped.epoch_done:
            stopped.end_epoch()
    stopped.step()
    assert not stopped.train.sampler.pass_done
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = make(digits, pruner=pruner)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    finish(resumed)
    assert resumed.history == whole.history
    assert resumed.prunings() == whole.prunings()
    assert resumed.samples() == whole.samples()
    assert resumed.samples_extra() == whole.samples_extra()


def test_none_is_no_bdp(digits):
    none, no_bdp = finish(make(digits, pruner="none")), finish(make(digits, bdp=False))
    assert none.history == no_bdp.history
    assert none.prunings() == []
    assert make_result(no_bdp)["pruner"] == "none"


@pytest.mark.parametrize("method", ["darts", "darts-2nd", "darts-2nd-exact"])
def test_features_are_those_of_the_pass_that_is_scored(digits, method):
    search = make(digits, pruner="grand", method=method)
    passes, scored = [], []
    search.supernet.classifier.register_forward_hook(lambda _, x, y: passes.append((x[0], y)))
    for level in search.levels.values():
        level.pruner.observe = lambda index, logits, target, features: scored.append(
            (logits, features)
        )
    search.step()
    assert len(passes) == {"darts": 2, "darts-2nd": 5, "darts-2nd-exact": 3}[method]
    for logits, features in scored:
        (x,) = (x for x, y in passes if y.data_ptr() == logits.data_ptr())
        assert torch.equal(x, features)
    assert len(scored) == 2


def test_features_want_a_classifier():
    class Headless(nn.Module):
        pass

    with pytest.raises(UserError, match="Headless has no module `classifier`"):
        Features(Headless())


def test_bdp_looks_at_no_features(digits):
    search = make(digits)
    assert search._features is None
    assert not search.supernet.classifier._forward_hooks


def test_an_extra_pass_leaves_no_trace_and_keeps_the_order(digits):
    search = make(digits, pruner="k-center")
    search.step()
    before = {name: value.clone() for name, value in search.supernet.state_dict().items()}
    random = torch.get_rng_state()
    samples = torch.tensor([3, 50, 7, 99, 20])
    outputs = search.valid.extra_forward(search._outputs, samples)
    for name, value in search.supernet.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(torch.get_rng_state(), random)
    assert all(module.training for module in search.supernet.modules())
    assert torch.equal(outputs.target, search.valid.labels[samples])
    assert torch.allclose(search.supernet.classifier(outputs.features), outputs.logits, atol=1e-5)
    assert search.valid.extra_samples == 5
    assert search.valid.extra_forward(search._outputs, samples) is outputs  # known already
    assert search.valid.extra_samples == 5

    def pixels(images):
        return images.mean((1, 2, 3))[:, None], images[:, 0, :, 0]

    whole = search.train.extra_forward(pixels)
    images = digits.images[search.train.samples].float()
    assert len(whole.logits) == 100
    brightness = images.mean((1, 2, 3))
    assert torch.equal(whole.logits.squeeze(1).argsort(), brightness.argsort())


def test_weights_of_samples_reach_the_loss():
    torch.manual_seed(0)
    images, target = torch.zeros(6, 3, 8, 8), torch.arange(6) % 3
    logits, index = torch.randn(6, 3), torch.arange(6)
    assert torch.equal(Batch(index, images, target).loss(logits), cross_entropy(logits, target))
    weight = torch.tensor([2.0, 0, 1, 1, 1, 1])
    by_hand = sum(weight[i] * cross_entropy(logits[i], target[i]) for i in range(6)) / 6
    assert torch.allclose(Batch(index, images, target, weight).loss(logits), by_hand)


def test_usual_criterion_and_those_that_do_not_fit():
    assert SearchConfig.of().criterion == "low-high"
    assert SearchConfig.of(pruner="el2n").criterion == "low-low"
    assert SearchConfig.of(pruner="el2n", criterion="high-low").criterion == "high-low"
    with pytest.raises(UserError, match="--pruner k-center goes with --criterion low-low"):
        SearchConfig.of(pruner="k-center", criterion="low-high")
    with pytest.raises(UserError, match="--pruner must be one of bdp, none"):
        SearchConfig.of(pruner="best")
