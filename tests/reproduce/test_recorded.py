"""docs/reduced: the tables there are what the command writes, and say what its plan says."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bdp_ext import cli
from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.plan import runs_of
from bdp_ext.reproduce.scale import reduced_scale

DOCS = Path(__file__).parents[2] / "docs"
RECORDED = ("table3", "table4", "table7", "fig3", "pruners")
SEEDS = 3


def recorded_runs(name: str) -> dict[str, dict]:
    tables = json.loads((DOCS / "reduced" / f"{name}.json").read_text())["tables"]
    return {run["run"]: run for t in tables for row in t["rows"] for run in row["runs"]}


def test_tables_are_as_the_command_writes_them(data_folder, tmp_path):
    command = ["reproduce", *RECORDED, "--seeds", str(SEEDS), "--out", str(tmp_path)]
    command += ["--recorded", str(DOCS / "reduced"), "--nb201", str(data_folder / "nb201.csv.gz")]
    done = CliRunner().invoke(cli.bdp, command)
    assert (done.exit_code, done.exception) == (0, None), done.output
    written = sorted(tmp_path.iterdir())
    assert len(written) == 3 * len(RECORDED)
    for path in written:
        assert path.read_text() == (DOCS / "reduced" / path.name).read_text(), path.name


@pytest.mark.parametrize("name", RECORDED)
def test_runs_are_those_of_the_plan(name):
    """All of them are there, none failed, and they took the samples that were planned: more only
    where class caps kept some."""
    scale = reduced_scale("DIR")
    plan = {run.name: run for run in runs_of([EXPERIMENTS[name](scale)], scale, SEEDS)}
    runs = recorded_runs(name)
    assert set(runs) == set(plan)
    for run, record in runs.items():
        assert not record["failure"]
        planned = plan[run].estimate().samples
        samples = record["measures"]["samples"] - record["measures"]["extra"]
        if "unpruned" in run:
            assert samples == planned
        elif "infobatch" not in run and "glister" not in run:  # sizes of their own
            assert planned <= samples < 2 * planned


def test_bdp_costs_less_than_half_of_the_unpruned_search():
    """In samples and in CPU seconds, seed by seed."""
    runs = recorded_runs("table3")
    for seed in range(SEEDS):
        whole = runs[f"darts-cifar10-unpruned-{seed}"]["measures"]
        bdp = runs[f"darts-cifar10-bdp-{seed}"]["measures"]
        assert bdp["samples"] < whole["samples"] / 2
        assert bdp["cpu"] < whole["cpu"] / 2
