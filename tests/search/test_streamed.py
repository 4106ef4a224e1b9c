"""Searches whose images stay on the disk: the same whatever threads do, after a stop, and after a
file was mended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bdp_ext import cli
from bdp_ext.data import load, streamed_set
from bdp_ext.errors import UserError
from bdp_ext.runs.folder import Interrupted
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search
from bdp_ext.search.run import run

OUTCOME = ("architecture", "alpha", "prunings", "samples", "history")


class Watcher:
    """Calls something after a number of steps."""

    def __init__(self, after: int = -1, call=None) -> None:
        self.left, self.call = after, call

    def started(self, search: Search) -> None: ...

    def stepped(self, search: Search) -> None:
        self.left -= 1
        if self.left == 0:
            self.call(search)

    def epoch_ended(self, search: Search, record: dict) -> None: ...


@pytest.fixture(scope="module")
def cifar(tmp_path_factory, data_folder) -> Path:
    """240 images of CIFAR-10 in class folders."""
    folder = tmp_path_factory.mktemp("cifar10")
    unpack = [sys.executable, data_folder / "unpack.py", folder, "--train", "240", "--test", "20"]
    subprocess.run(unpack, check=True, capture_output=True)
    return folder


def config(cifar: Path, **options) -> SearchConfig:
    return SearchConfig.of(
        **{
            "data": str(cifar),
            "stream": True,
            "image_size": 16,
            "subset": 0.5,
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
    return run(config(cifar), tmp_path_factory.mktemp("whole"), resume=False, observer=Watcher())


def test_both_levels_shrink_and_more_threads_decode_the_same(cifar, whole, tmp_path, monkeypatch):
    assert [row["train"] for row in whole["history"]] == [96, 96, 68]
    assert {row["level"] for row in whole["prunings"]} == {"train", "valid"}
    monkeypatch.setattr(streamed_set, "threads", lambda: 4)
    again = run(config(cifar), tmp_path, resume=False, observer=Watcher())
    assert [again[key] for key in OUTCOME] == [whole[key] for key in OUTCOME]


@pytest.mark.parametrize("steps", [2, 5])  # both in mid-epoch, with a batch under way
def test_stopped_and_resumed_it_ends_the_same(cifar, whole, tmp_path, steps):
    stop = Watcher(steps, lambda search: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        run(config(cifar), tmp_path, resume=False, observer=stop)
    resumed = run(config(cifar), tmp_path, resume=True, observer=Watcher())
    assert [resumed[key] for key in OUTCOME] == [whole[key] for key in OUTCOME]


def test_file_damaged_in_mid_search_is_named_and_once_mended_the_search_goes_on(
    cifar, whole, tmp_path, monkeypatch, capsys
):
    contents = {}

    def damage(search: Search) -> None:
        for file in search.train.data.files:
            contents[file] = Path(file).read_bytes()
            Path(file).write_bytes(contents[file][:100])

    try:
        with pytest.raises(UserError, match=r"\.jpg is damaged \(.*\): replace or remove it"):
            run(config(cifar), tmp_path, resume=False, observer=Watcher(4, damage))
    finally:
        for file, content in contents.items():
            Path(file).write_bytes(content)
    assert not (tmp_path / "result.json").exists()
    monkeypatch.setattr("sys.argv", ["bdp", "search", "--out", str(tmp_path), "--resume"])
    cli.main()
    result = json.loads((tmp_path / "result.json").read_text())
    assert [result[key] for key in OUTCOME] == [whole[key] for key in OUTCOME]


def test_another_file_is_another_search(cifar, tmp_path):
    stop = Watcher(2, lambda search: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted):
        run(config(cifar, subset=None), tmp_path, resume=False, observer=stop)
    file = Path(load(cifar, stream=True, image_size=16).files[7])
    renamed = file.rename(file.with_name("another.jpg"))
    try:
        with pytest.raises(UserError, match="are not those that this search began with"):
            run(config(cifar, subset=None), tmp_path, resume=True, observer=Watcher())
    finally:
        renamed.rename(file)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--stream"], "--stream is for a folder of images"),
        (["--subset", ".5", "--limit-train", "100"], "give --limit-train or --subset, not both"),
        (["--subset", "0"], "--subset must be above 0"),
        (["--subset", "2"], "--subset"),
        (["--space", "mobilenet", "--method", "pc-darts"], "PC-DARTS needs"),
    ],
)
def test_what_cannot_be_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    command = ["bdp", "search", "--out", str(tmp_path / "out"), "--epochs", "30", *arguments]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
