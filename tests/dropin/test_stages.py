"""Stages with a model each: `bdp search` and `bdp_ext.prune` prune after the same epochs."""

import pytest
from common import Network, queues
from torch import nn

import bdp_ext
from bdp_ext.data import load
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search

STAGES, ALPHA_START = (4, 4, 4), 1


def searched() -> list[tuple[str, int]]:
    """The prunings of `bdp search --method p-darts`."""
    config = SearchConfig.of(
        space="darts", method="p-darts", epochs=STAGES[0], alpha_start=ALPHA_START,
        channels=2, cells=3, batch_size=30,
    )  # fmt: skip
    search = Search(config, load("digits", limit=60))
    while not search.done:
        search.step()
        if search.epoch_done:
            search.end_epoch()
    return [(row["level"], row["epoch"]) for row in search.prunings()]


def dropped_in(**options) -> list[tuple[str, int]]:
    """Those of a loop in the manner of P-DARTS' own."""
    criterion = nn.CrossEntropyLoss()
    train_queue, valid_queue = bdp_ext.prune(*queues(), criterion, epochs=STAGES, **options)
    for epochs in STAGES:
        model = Network()
        for epoch in range(epochs):
            for images, target in train_queue:
                if epoch >= ALPHA_START:
                    search, labels = next(iter(valid_queue))
                    criterion(model(search), labels).backward()
                criterion(model(images), target).backward()
    pruner = train_queue.pruner
    assert pruner.epoch == sum(STAGES)
    return [(row["level"], row["epoch"]) for row in pruner.report()]


def test_both_prune_after_the_same_epochs():
    prunings = searched()
    assert [epoch for level, epoch in prunings if level == "train"] == [2, 4, 6, 8, 10]
    assert [epoch for level, epoch in prunings if level == "valid"] == [4, 8]
    assert dropped_in(alpha_start=ALPHA_START) == prunings
    assert dropped_in() == prunings  # what is due without scores does not happen


@pytest.mark.parametrize("level", ["train", "valid"])
def test_the_papers_schedule_is_one(level):
    config = SearchConfig.of(space="darts", method="p-darts")
    train_queue, _ = bdp_ext.prune(
        *queues(), nn.CrossEntropyLoss(), epochs=(25, 25, 25), alpha_start=10
    )
    schedule = train_queue.pruner.levels[level].pruner.schedule
    assert schedule == config.level_schedule(level)
    assert len(schedule.prunings) == {"train": 14, "valid": 8}[level]


def test_scores_of_a_stage_go_with_its_model():
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, _ = bdp_ext.prune(*queues(), criterion, epochs=(2, 3))
    for epoch in (1, 2):
        for images, target in train_queue:
            criterion(model(images), target).backward()
        window = train_queue.pruner.levels["train"].pruner.window
        assert bool(window.scores.isnan().all()) == (epoch == 2)
    assert len(train_queue.pruner.live_indices["train"]) == 56
