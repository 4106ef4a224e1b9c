"""Runs whose numbers are no longer finite end at once, in a sentence, and spoil no file."""

import json
import re

import pytest
import torch
from jobs import CONFIG

from bdp_ext.data import load
from bdp_ext.errors import Diverged
from bdp_ext.runs import checkpoint
from bdp_ext.search import Search

SMALL = (
    *("--data", "digits", "--limit-train", 60, "--batch-size", 10),
    *("--channels", 2, "--cells", 1),
)
CELL = "|skip_connect~0|+|nor_conv_3x3~0|none~1|+|none~0|none~1|nor_conv_1x1~2|"
SENTENCE = (
    r"has diverged: in epoch 1, after \d+ steps in all, the [\w ]+ is not finite; try a smaller"
)


@pytest.mark.parametrize(
    "command",
    [
        ("search", *SMALL, "--epochs", 4, "--lr", "1e20"),
        ("search", *SMALL, "--epochs", 4, "--lr", "1e20", "--eigenvalue-every", 1),
        ("search", *SMALL, "--epochs", 4, "--alpha-lr", "1e24", "--lr", "1e10"),
        ("retrain", *SMALL, "--epochs", 2, "--lr", "1e20", "--genotype", CELL),
    ],
)
def test_the_command_line_stops(bdp, tmp_path, command):
    code, _, errors = bdp(*command, "--threads", torch.get_num_threads(), "--out", tmp_path / "run")
    assert code == 1
    assert re.search(SENTENCE, errors)
    assert len(errors.splitlines()) == 1
    assert not (tmp_path / "run/result.json").exists()
    for file in (tmp_path / "run").glob("*.json*"):
        assert "NaN" not in file.read_text()
        assert "Infinity" not in file.read_text()


def finish_epoch(search: Search) -> None:
    while True:
        search.step()
        if search.epoch_done:
            search.end_epoch()
            return


@pytest.mark.parametrize("what", ["weights", "alphas"])
def test_what_is_not_finite_at_the_end_of_an_epoch_is_refused(what):
    search = Search(CONFIG, load("digits", limit=60))
    finish_epoch(search)
    while not search.epoch_done:
        search.step()
    history = list(search.history)
    with torch.no_grad():
        getattr(search.supernet, what)()[0].fill_(float("nan"))
    with pytest.raises(
        Diverged, match=f"in epoch 2, .* the {what.removesuffix('s')} is not finite"
    ):
        search.end_epoch()
    assert search.history == history


def test_the_last_good_checkpoint_stays(bdp, tmp_path, monkeypatch):
    ended = Search.end_epoch

    def diverge(self: Search) -> dict:
        record = ended(self)
        if self.epoch == 2:
            self.weight_optimizer.param_groups[0]["lr"] = 1e38
        return record

    monkeypatch.setattr(Search, "end_epoch", diverge)
    command = ("search", *SMALL, "--epochs", 5, "--interval", 2, "--threads", 1, "--out")
    code, _, errors = bdp(*command, tmp_path / "run")
    assert (code, "in epoch 3" in errors) == (1, True), errors
    metrics = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == [1, 2]
    state = checkpoint.read(tmp_path / "run/checkpoint.pt", "search")
    assert len(state["search"]["history"]) == 2
