"""Methods and spaces of somebody else's, named `package.module:Name`."""

import json
import sys

import pytest

from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS, find_method
from bdp_ext.search.config import SearchConfig
from bdp_ext.spaces import SPACES, find_space

MINE = '''
from bdp_ext.methods import Darts, Loss
from bdp_ext.spaces import NasBench201Space


class Doubled(Darts):
    """The architecture's loss, twice."""

    name = "doubled"
    defaults = {"alpha_lr": 0.01}

    def architecture_loss(self, step, valid):
        loss = super().architecture_loss(step, valid)
        return Loss(2 * loss.value, loss.logits)


class Narrow(NasBench201Space):
    name = "narrow"
    defaults = {"channels": 2, "cells": 1}


class Nothing:
    pass


doubled = Doubled()
'''


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "minelib").mkdir()
    (tmp_path / "minelib" / "search.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("minelib")]:
        del sys.modules[name]


def test_finds_ours_and_theirs(mine):
    assert find_method("beta-darts") is METHODS["beta-darts"]
    assert find_space("darts") is SPACES["darts"]
    assert find_method("minelib.search:Doubled").name == "doubled"
    assert find_space("minelib.search:Narrow").name == "narrow"


def test_their_defaults_count(mine):
    config = SearchConfig.of(space="minelib.search:Narrow", method="minelib.search:Doubled")
    assert (config.channels, config.cells, config.alpha_lr) == (2, 1, 0.01)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dart", "must be one of darts, .*, or package.module:Name"),
        ("nowhere.to:Find", "cannot be used .ModuleNotFoundError"),
        ("minelib.search:Nowhere", "cannot be used .AttributeError"),
        ("minelib.search:Nothing", "is no method: it has no name, no defaults"),
        ("minelib.search:doubled", "is an object; name its class"),
    ],
)
def test_says_what_is_wrong(mine, name, message):
    with pytest.raises(UserError, match=f"--method .*{message}"):
        find_method(name)


def test_command_line_searches_with_them(mine, bdp):
    own = ("--space", "minelib.search:Narrow", "--method", "minelib.search:Doubled")
    small = ("--epochs", 3, "--interval", 2, "--limit-train", 60)
    assert bdp("search", "--out", "run", *own, *small)[0] == 0
    result = json.loads((mine / "run" / "result.json").read_text())
    assert result["method"] == "minelib.search:Doubled"
    assert result["architecture"].startswith("|")
