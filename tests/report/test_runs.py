"""Runs read from their folders: unfinished, damaged, of one name, with code of somebody's own."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from bdp_ext import cli
from bdp_ext.errors import UserError
from bdp_ext.report import read_runs, write_report

from .conftest import set_in


def test_p_darts_edges_keep_the_names_of_what_is_left(folders):
    (found,) = read_runs([folders["p-darts"]])
    for values in found.alphas().values():
        left = (~np.isnan(values.weights)).sum(0)  # [edges, epochs]
        assert left.tolist() == [[8] * 4 + [5] * 4 + [3] * 4] * 14
        end = values.weights[:, :, 3]  # the weakest three of the first stage are gone
        assert np.isnan(values.weights[:, :, 4])[np.argsort(end, 0)[:3], np.arange(14)].all()


def test_runs_of_the_same_name_are_told_apart(folders, tmp_path):
    for parent in ("a", "b"):
        shutil.copytree(folders["whole"], tmp_path / parent / "run")
    found = read_runs([tmp_path / "a/run", tmp_path / "b/run"])
    assert [run.name for run in found] == ["a/run", "b/run"]
    with pytest.raises(UserError, match="is given twice"):
        read_runs([tmp_path / "a/run", tmp_path / "b/../a/run"])


def append(name: str, text: str):
    def damage(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return damage


def replace(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is no folder: give the --out of a search"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (replace("config.json", '{"genotype": "x"}'), "holds no settings of a search"),
        (replace("config.json", '{"epochs": "6"}'), "a whole number, .*; got '6'"),
        (replace("config.json", '{"epochs": 0}'), "--epochs must be .* at least 1 .*; got '0'"),
        (replace("config.json", "{"), "holds no settings of a search"),
        (lambda folder: (folder / "metrics.jsonl").unlink(), "has not finished an epoch yet"),
        (replace("metrics.jsonl", ""), "has not finished an epoch yet"),
        (append("metrics.jsonl", "{half\n"), "line 7 of .*metrics.jsonl is no epoch of a search"),
        (append("metrics.jsonl", "[1, 2]\n"), "line 7 of .*metrics.jsonl is no epoch of a search"),
        (append("metrics.jsonl", '{"epoch": 7}\n'), "line 7 .* \\(no 'train'\\)"),
        (
            lambda folder: append("metrics.jsonl", (folder / "metrics.jsonl").read_text())(folder),
            "line 7 of .* \\(it is epoch 1\\)",
        ),
        (lambda folder: (folder / "metrics.jsonl").write_bytes(b"\xff\n"), "cannot be read"),
        (replace("result.json", "{}"), "result.json is no result of a search"),
        (replace("pruned.npz", "PK"), "pruned.npz is damaged or no record of prunings"),
    ],
)
def test_damaged_runs_are_refused_in_a_sentence(folders, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(folders["seed0"], folder)
    damage(folder)
    with pytest.raises(UserError, match=message):
        write_report([folders["whole"], folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


MINE = """
from pathlib import Path
from bdp_ext.methods import Darts
from bdp_ext.spaces import NasBench201Space

Path("imported").touch()


class Narrow(NasBench201Space):
    name = "narrow"


class Gdas(Darts):
    name = "gdas"
"""


@pytest.fixture
def received(folders, tmp_path, monkeypatch):
    """A folder that somebody else's search left, with the module that it names, and we in it."""
    folder = tmp_path / "received"
    shutil.copytree(folders["seed0"], folder)
    (folder / "mine.py").write_text(MINE)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder
    sys.modules.pop("mine", None)


@pytest.mark.parametrize(("option", "name"), [("space", "mine:Narrow"), ("method", "mine:Gdas")])
def test_code_that_a_run_names_is_imported_only_if_named_again(received, option, name):
    set_in(received, **{option: name})

    def report(*arguments: str):
        return CliRunner().invoke(cli.bdp, ["report", ".", *arguments]).exception

    for arguments in ([], [f"--{option}", "mine:Other"]):
        error = report(*arguments)
        assert isinstance(error, UserError)
        assert str(error).endswith(f"give --{option} {name}.")
    assert not (received / "imported").exists()
    assert not (received / "report.html").exists()
    assert report(f"--{option}", name) is None
    assert (received / "imported").exists()
    assert name in (received / "report.html").read_text()


def test_a_pruner_needs_no_code(received):
    set_in(received, pruner="mine:Pruner")
    (found,) = read_runs([received])
    assert found.pruned
    assert found.pruning_records["train"].taken.any()
    assert not (received / "imported").exists()
