"""Searches whose images stay on the disk: the same whatever threads do, after a stop, and after a
file was mended."""

import json
import signal
from pathlib import Path

import pytest
from jobs import Silent

from bdp_ext.data import load, streamed_set
from bdp_ext.errors import UserError
from bdp_ext.runs.folder import Interrupted
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.run import run

OUTCOME = ("architecture", "alpha", "prunings", "samples", "history")


def config(cifar: Path, **options) -> SearchConfig:
    return SearchConfig.of(
        **{
            "data": str(cifar),
            "stream": True,
            "image_size": 16,
            "subset": 120 / 512,
            "epochs": 3,
            "interval": 2,
            "channels": 2,
            "cells": 1,
            "batch_size": 16,
            "train_share": 0.8,
            "threads": 1,
            **options,
        }
    )


@pytest.fixture(scope="module")
def whole(cifar, tmp_path_factory) -> dict:
    return run(config(cifar), tmp_path_factory.mktemp("whole"), resume=False, observer=Silent())


def test_both_levels_shrink_and_more_threads_decode_the_same(cifar, whole, tmp_path, monkeypatch):
    assert [row["train"] for row in whole["history"]] == [96, 96, 68]
    assert {row["level"] for row in whole["prunings"]} == {"train", "valid"}
    monkeypatch.setattr(streamed_set, "threads", lambda: 4)
    again = run(config(cifar), tmp_path, resume=False, observer=Silent())
    assert [again[key] for key in OUTCOME] == [whole[key] for key in OUTCOME]


@pytest.mark.parametrize("steps", [2, 5])  # both in mid-epoch, with a batch under way
def test_stopped_and_resumed_it_ends_the_same(cifar, whole, tmp_path, steps):
    stop = Silent({steps: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(Interrupted):
        run(config(cifar), tmp_path, resume=False, observer=stop)
    resumed = run(config(cifar), tmp_path, resume=True, observer=Silent())
    assert [resumed[key] for key in OUTCOME] == [whole[key] for key in OUTCOME]


def test_file_damaged_in_mid_search_is_named_and_once_mended_the_search_goes_on(
    cifar, whole, tmp_path, bdp
):
    contents = {}

    def damage() -> None:
        for file in config(cifar).images().files:
            contents[file] = Path(file).read_bytes()
            Path(file).write_bytes(contents[file][:100])

    try:
        with pytest.raises(UserError, match=r"\.jpg is damaged \(.*\): replace or remove it"):
            run(config(cifar), tmp_path, resume=False, observer=Silent({4: damage}))
    finally:
        for file, content in contents.items():
            Path(file).write_bytes(content)
    assert not (tmp_path / "result.json").exists()
    assert bdp("search", "--out", tmp_path, "--resume")[0] == 0
    result = json.loads((tmp_path / "result.json").read_text())
    assert [result[key] for key in OUTCOME] == [whole[key] for key in OUTCOME]


def test_another_file_is_another_search(cifar, tmp_path):
    stop = Silent({2: lambda: signal.raise_signal(signal.SIGTERM)})
    with pytest.raises(Interrupted):
        run(config(cifar, subset=None), tmp_path, resume=False, observer=stop)
    file = Path(load(cifar, stream=True, image_size=16).files[7])
    renamed = file.rename(file.with_name("another.jpg"))
    try:
        with pytest.raises(UserError, match="are not those that this search began with"):
            run(config(cifar, subset=None), tmp_path, resume=True, observer=Silent())
    finally:
        renamed.rename(file)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stream"], "--stream is for a folder of images"),
        (["--subset", ".5", "--limit-train", "100"], "give --limit-train or --subset, not both"),
        (["--subset", "0"], "--subset must be a number, above 0"),
        (["--subset", "2"], "--subset"),
        (["--space", "mobilenet", "--method", "pc-darts"], "PC-DARTS needs"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, bdp, arguments, sentence):
    code, _, errors = bdp("search", "--out", tmp_path / "out", "--epochs", 30, *arguments)
    assert (code, sentence in errors) == (2, True)
    assert not (tmp_path / "out").exists()
