"""Code of a user's own: a run's folder alone never imports it, the command line does."""

import json
import sys
from dataclasses import asdict

import pytest
import torch

from bdp_ext.errors import UserError
from bdp_ext.retrain import RetrainConfig, load_network
from bdp_ext.runs import checkpoint
from bdp_ext.search import SearchConfig

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|none~2|"
MODULE = """
from pathlib import Path
from bdp_ext.methods import Darts
from bdp_ext.pruning.baselines import Random
from bdp_ext.spaces import NasBench201Space

Path("imported").touch()


class Method(Darts):
    name = "theirs"


class Space(NasBench201Space):
    name = "theirs"
    defaults = {"channels": 2, "cells": 1}


class Pruner(Random):
    name = "theirs"
"""
SMALL = ("--epochs", 3, "--interval", 2, "--limit-train", 60, "--channels", 2, "--cells", 1)
TRAINED = ("--data", "digits", "--epochs", 1, "--limit-train", 60, "--channels", 2, "--cells", 1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the module lies, and where it writes a file when it is imported."""
    (tmp_path / "theirs.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("theirs", None)


@pytest.mark.parametrize("option", ["space", "method", "pruner"])
def test_a_saved_search_imports_nothing_that_is_not_named_again(folder, bdp, option):
    name = f"theirs:{option.title()}"
    config = asdict(SearchConfig(epochs=3, interval=2, limit_train=60, channels=2, cells=1))
    config["criterion"] = "low-low"  # goes with any pruner
    (folder / "run").mkdir()
    (folder / "run/config.json").write_text(json.dumps({**config, option: name}))
    code, _, errors = bdp("search", "--out", "run", "--resume")
    assert code == 2
    assert f"give --{option} {name}." in errors
    assert not (folder / "imported").exists()
    code, _, errors = bdp("search", "--out", "run", "--resume", f"--{option}", name)
    assert (code, errors) == (0, "")
    assert (folder / "imported").exists()


def test_a_checkpoint_imports_nothing(folder, bdp):
    assert bdp("search", "--out", "run", *SMALL)[0] == 0
    state = torch.load("run/checkpoint.pt", weights_only=True)
    state["config"]["method"] = "theirs:Method"
    torch.save(state, "run/checkpoint.pt")
    code, _, errors = bdp("search", "--out", "run", "--resume")
    assert code == 2
    assert "other values of --method" in errors
    assert not (folder / "imported").exists()
    assert checkpoint.read(folder / "run/checkpoint.pt", "search")["config"] == state["config"]


def test_a_result_and_weights_import_nothing(folder, bdp, data_folder):
    (folder / "run").mkdir()
    result = {"space": "theirs:Space", "architecture": CELL}
    (folder / "run/result.json").write_text(json.dumps(result))
    config = asdict(RetrainConfig(space="nas-bench-201", genotype=CELL))
    (folder / "trained").mkdir()
    (folder / "trained/config.json").write_text(json.dumps({**config, "space": "theirs:Space"}))
    own = ("--space", "theirs:Space")
    trained = ("retrain", "--genotype", "run", "--out", "net", *TRAINED)
    drawn = ("draw", "--genotype", "run", "--out", "cell.svg")
    for command in (trained, drawn, ("retrain", "--out", "trained", "--resume")):
        code, _, errors = bdp(*command)
        assert (code, "give --space theirs:Space." in errors) == (2, True), errors
    looked_up = ("query", "--run", "run", "--nb201", data_folder / "nb201.csv.gz")
    assert bdp(*looked_up)[0] == 0  # needs no code
    assert not (folder / "imported").exists()

    for command in (drawn, trained, looked_up):
        code, _, errors = bdp(*command, *own)
        assert (code, errors) == (0, "")
    assert (folder / "imported").exists()
    assert (folder / "cell.svg").exists()
    assert bdp("retrain", "--out", "net", "--resume", *own)[0] == 0
    weights = folder / "net/weights.safetensors"
    with pytest.raises(UserError, match=r"weights.safetensors names .* give --space theirs:Space"):
        load_network(weights)
    assert load_network(weights, space="theirs:Space")(torch.zeros(1, 3, 8, 8)).shape == (1, 10)
    code, _, errors = bdp("query", "--arch", "|a|", "--nb201", "none.csv", *own)
    assert (code, "--space theirs:Space: " in errors) == (2, True)
