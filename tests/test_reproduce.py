"""The paper's experiments: their plans, the paper's figures, and small ones from end to end."""

import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from scipy.stats import t as student

from bdp_ext import cli
from bdp_ext.config import SearchConfig
from bdp_ext.data import load
from bdp_ext.errors import UserError
from bdp_ext.query import Benchmark
from bdp_ext.reproduce import paper
from bdp_ext.reproduce.estimate import estimate_search, level_sizes, search_samples
from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.plan import runs_of
from bdp_ext.reproduce.results import Summary, from_record
from bdp_ext.reproduce.runner import LOG, Runner
from bdp_ext.reproduce.scale import Size, paper_scale, reduced_scale
from bdp_ext.run import run
from bdp_ext.search import Search

SCALES = {"paper": paper_scale("/imagenet"), "reduced": reduced_scale("/cifar")}
TABLES = ("table1", "table2", "table3", "table4", "table5", "table6", "table7")
RUNS = {
    "paper": dict(zip(TABLES, (9, 7, 87, 13, 71, 12, 14), strict=True)),
    "reduced": dict(zip(TABLES, (9, 7, 7, 12, 34, 12, 14), strict=True)),
}
"""With one seed; the figures' four are Table 3's, two of them with eigenvalues for Figure 3."""
TINY = {
    "epochs": 5,
    "interval": 2,
    "limit_train": 200,
    "channels": 2,
    "image_size": 8,
    "batch_size": 20,
}


def set_options(**settings: object) -> list[str]:
    return [f"--set={name}={value}" for name, value in {**TINY, **settings}.items()]


def reproduce(out: Path, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "bdp_ext", "reproduce", "--out", out, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(list(map(str, command)), text=True, stdout=pipe, stderr=pipe)


# The paper's figures.


@pytest.mark.parametrize("number", range(1, 8))
def test_figures_are_those_of_the_paper(number, data_folder):
    text = data_folder.parent / "paper.txt"
    if not text.exists():
        pytest.skip(f"no {text}")
    # The text has lost what stands between a mean and its deviation, the beta, and ticks.
    lost = str.maketrans("", "", "±→β ")

    def plain(cells):
        return [cell.translate(lost) for cell in cells if cell.translate(lost)]

    printed = [plain(line.replace("∗", "*").split("|")) for line in text.read_text().splitlines()]  # noqa: RUF001
    for cells in paper.rows(getattr(paper, f"TABLE{number}")):
        cells = [cell.removesuffix(" (0.04 days)") for cell in cells]
        if number == 7:
            del cells[1]
        assert plain(cells) in printed


def test_every_figure_of_the_paper_stands_in_its_column():
    for scale in SCALES.values():
        for experiment in EXPERIMENTS.values():
            for table in experiment(scale).tables:
                columns = sum(column.paper for column in table.columns)
                for row in table.rows:
                    assert len(row.label) == len(table.labels)
                    assert len(row.paper) in ((0, columns) if row.runs else (columns,))


# Plans.


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", TABLES)
def test_plan_has_so_many_runs(scale, name):
    runs = runs_of([EXPERIMENTS[name](SCALES[scale])], SCALES[scale], 1)
    assert len(runs) == RUNS[scale][name]
    assert len(runs_of([EXPERIMENTS[name](SCALES[scale])], SCALES[scale], 3)) == 3 * len(runs)
    position = {run.name: number for number, run in enumerate(runs)}
    assert all(position[run.after.name] < position[run.name] for run in runs if run.after)


@pytest.mark.parametrize("scale", SCALES)
def test_equal_settings_are_one_run(scale):
    chosen = SCALES[scale]
    runs = runs_of([make(chosen) for make in EXPERIMENTS.values()], chosen, 1)
    searches = [SearchConfig.of(**r.options) for r in runs if not r.after]
    assert len(set(searches)) == len(searches)
    names = {run.name for run in runs_of([EXPERIMENTS["table3"](chosen)], chosen, 1)}
    assert {run.name for run in runs_of([EXPERIMENTS["fig4"](chosen)], chosen, 1)} <= names


def test_paper_scale_has_the_papers_settings():
    scale = SCALES["paper"]
    runs = runs_of([EXPERIMENTS["table4"](scale)], scale, 1)
    for run_ in runs:
        config = SearchConfig.of(**run_.options)
        assert (config.channels, config.cells, config.batch_size) == (16, 5, 64)
        assert (config.lr, config.alpha_lr) == (0.025, 3e-4)
        assert (config.epochs, config.interval) == (50, 5) or not config.bdp
    left = {}
    for run_ in runs:
        config = SearchConfig.of(**run_.options)
        if config.bdp and config.method == "darts":
            left[config.prune_train] = level_sizes(config, 50_000)["train"][-1] / 25_000
    assert {share: round(100 * kept) for share, kept in left.items()} == {
        None: 4,
        0.2: 13,
        0.4: 1,
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_with_bdp_has_both_controls(name):
    scale = SCALES["reduced"]
    runs = runs_of([EXPERIMENTS[name](scale)], scale, 1)
    options = [run.options for run in runs if not run.after]
    if name not in ("table1", "table2"):  # nothing is pruned step by step there
        assert any(o.get("criterion") == "random" for o in options)
    unpruned = [SearchConfig.of(**o).epochs for o in options if not o.get("bdp", True)]
    assert min(unpruned) < max(unpruned)


def test_control_of_the_same_cost_costs_the_same():
    for scale in SCALES.values():
        runs = {r.name: r for r in runs_of([EXPERIMENTS["fig4"](scale)], scale, 1)}
        pruned = runs["darts-cifar10-bdp-0"].estimate().samples
        shorter = runs["darts-cifar10-unpruned-epochs=16-0"].estimate().samples
        assert shorter == pytest.approx(pruned, rel=0.02)
        assert pruned < 0.5 * runs["darts-cifar10-unpruned-0"].estimate().samples


@pytest.mark.parametrize("bdp", [True, False])
def test_estimate_is_what_a_run_takes(tmp_path, bdp):
    config = SearchConfig.of(
        **{**TINY, "cells": 1, "bdp": bdp, "criterion": "random", "balance": "none"}
    )

    class Silent:
        def started(self, job): ...
        def stepped(self, job): ...
        def epoch_ended(self, job, record): ...

    result = run(config, tmp_path, resume=False, observer=Silent())
    estimate = estimate_search(config, Size(1437, 10, 8))
    assert estimate.epochs == 5
    assert estimate.samples == sum(result["samples"].values()) == search_samples(config, 200)
    search = Search(config, load("digits", image_size=8, limit=200))
    weights = sum(parameter.numel() for parameter in search.supernet.parameters())
    assert 8 * weights < estimate.disk < (tmp_path / "checkpoint.pt").stat().st_size


def test_dry_run_prints_the_plan_and_does_nothing(tmp_path, monkeypatch, capsys):
    arguments = ["bdp", "reproduce", "table4", "fig3", "--scale", "paper", "--dry-run"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "out"), "--seeds", "1"])
    cli.main()
    text = capsys.readouterr().out
    assert "darts-cifar10-bdp-prune-train=0.4-prune-valid=0.4-0" in text
    assert re.search(r"^15 runs: [\d,]+ epochs, [\d,]+ samples, [\d,.]+ MB$", text, re.M)
    assert "2,500,000" in text  # 50 epochs of 25,000 + 25,000
    assert not (tmp_path / "out").exists()


def test_one_shot_pruning_halves_both_levels_after_five_epochs():
    scale = SCALES["paper"]
    runs = {run.name: run for run in runs_of([EXPERIMENTS["table2"](scale)], scale, 1)}
    name = "darts-cifar10-el2n-criterion=high-low-keep-train=0.5-keep-valid=0.5-0"
    sizes = level_sizes(SearchConfig.of(**runs[name].options), 50_000)
    assert sizes == {level: [25_000] * 5 + [12_500] * 45 for level in ("train", "valid")}
    shorter = runs["darts-cifar10-unpruned-epochs=28-0"]
    assert shorter.estimate().samples == pytest.approx(runs[name].estimate().samples, rel=0.02)


# Sentences.


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["fig4"], "give --data DIR"),
        (["fig4", "--data", "digits"], "give --nb201 FILE"),
        (["fig4", "--data", "digits", "--nb201", "nowhere.csv"], "no such file"),
        (["fig4", "--set", "epochs"], "NAME=VALUE"),
        (["fig4", "--set", "epochs=1"], "take three epochs or more"),
        (["table6", "--scale", "paper"], "trains on ImageNet"),
        (["table9"], "table1"),
    ],
)
def test_what_a_user_can_mend_is_one_sentence(tmp_path, monkeypatch, capsys, arguments, sentence):
    out = tmp_path / "out"
    monkeypatch.setattr("sys.argv", ["bdp", "reproduce", *arguments, "--out", str(out)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
    assert not out.exists()


# Numbers.


def test_summary_has_the_sample_deviation_and_students_interval():
    # The paper's Table 1, 9 : 1: the benchmark's cells 1835, 2299 and 3894.
    summary = Summary((54.2967, 70.92, 84.1633))
    assert f"{summary.mean:.2f} {summary.std:.2f}" == "69.79 14.97"
    low, high = student.interval(0.95, 2, summary.mean, summary.std / 3**0.5)
    assert summary.interval == pytest.approx((low, high))
    assert (Summary((1.0,)).std, Summary((1.0,)).interval) == (0.0, None)


# From end to end.


@pytest.fixture(scope="module")
def nb201(data_folder) -> Path:
    return data_folder / "nb201.csv.gz"


@pytest.fixture(scope="module")
def done(tmp_path_factory, nb201) -> Path:
    """Figure 3 on digits, two seeds; one of its eight runs fails."""
    out = tmp_path_factory.mktemp("reproduce")
    broken = out / "runs" / "darts-cifar10-bdp-criterion=random-1"
    broken.mkdir(parents=True)
    (broken / "checkpoint.pt").write_bytes(b"damaged")
    process = reproduce(out, *arguments(nb201))
    output, errors = process.communicate(timeout=600)
    assert process.returncode == 1, errors
    assert "8 runs, of which 0 are finished" in output
    assert "1 of 8 runs have no result" in errors
    assert f"{broken.name}: " in errors
    assert "damaged or no checkpoint" in errors
    return out


def arguments(nb201: Path) -> list[object]:
    common = ["fig3", "--seeds", 2, "--jobs", 2, "--data", "digits", "--nb201", nb201]
    return [*common, *set_options()]


def outcome(out: Path, name: str) -> dict:
    return json.loads((out / "runs" / name / "result.json").read_text())


def test_tables_hold_mean_and_deviation_of_the_seeds(done, nb201):
    benchmark = Benchmark(nb201)
    cells = [outcome(done, f"darts-cifar10-unpruned-eigenvalue-every=5-{s}") for s in (0, 1)]
    values = [benchmark.accuracy(cell["architecture"])["cifar10_test"] for cell in cells]
    other = [benchmark.accuracy(c["architecture_without_none"])["cifar10_test"] for c in cells]
    text = (done / "fig3.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| DARTS |"))
    for both in (values, other):
        assert f"{statistics.fmean(both):.2f} ± {statistics.stdev(both):.2f}" in line
    assert all(cell["architecture"].replace("|", "\\|") in text for cell in cells)

    rows = list(csv.DictReader((done / "fig3.csv").read_text().splitlines()))
    row = next(r for r in rows if (r["line"], r["column"]) == ("DARTS", "CIFAR-10 test"))
    assert float(row["mean"]) == pytest.approx(statistics.fmean(values))
    assert list(map(float, row["values"].split())) == values

    table = json.loads((done / "fig3.json").read_text())["tables"][0]
    difference = table["differences"][0]
    assert (difference["line"], difference["less"]) == (["DARTS w/ BDP"], ["DARTS"])
    pruned = [outcome(done, f"darts-cifar10-bdp-eigenvalue-every=5-{s}") for s in (0, 1)]
    samples = [sum(sum(c["samples"].values()) for c in group) for group in (pruned, cells)]
    assert difference["share_of_samples"] == samples[0] / samples[1]
    measured = table["rows"][0]["runs"][0]["measures"]
    assert measured["eigenvalue_last"] == measured["eigenvalue_largest"]


def test_a_failed_run_stops_no_other_and_is_said_in_the_table(done):
    results = list((done / "runs").glob("*/result.json"))
    assert len(results) == 7
    text = (done / "fig3.md").read_text()
    line = next(line for line in text.splitlines() if line.startswith("| random instead of BDP |"))
    assert "(1 of 2)" in line
    assert "damaged or no checkpoint" in text


def test_pictures_are_whole(done):
    assert (done / "fig3.png").read_bytes().startswith(b"\x89PNG")
    assert (done / "fig3.svg").read_text().rstrip().endswith("</svg>")
    assert "![fig3](fig3.png)" in (done / "fig3.md").read_text()


def test_tables_are_written_again_without_the_runs(done, nb201, tmp_path):
    again = tmp_path / "again"
    process = reproduce(again, *arguments(nb201), "--recorded", done)
    _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    assert sorted(path.name for path in again.iterdir()) == ["fig3.csv", "fig3.json", "fig3.md"]
    for path in again.iterdir():
        assert path.read_text() == (done / path.name).read_text()


def test_what_is_no_record_is_refused(tmp_path):
    (tmp_path / "fig3.json").write_text('{"tables": [{}]}')
    with pytest.raises(UserError, match="no record that `bdp reproduce` has written"):
        from_record(tmp_path / "fig3.json")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--recorded", "nowhere"], "fig3.json cannot be read"),
        (["--seeds", 3], "give the --scale, --seeds and --set"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(done, nb201, tmp_path, given, sentence):
    process = reproduce(tmp_path / "out", *arguments(nb201), "--recorded", done, *given)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2
    assert sentence in errors
    assert not (tmp_path / "out").exists()


def test_finished_runs_are_not_repeated_and_the_failed_one_is(done, nb201):
    times = {path: path.stat().st_mtime_ns for path in (done / "runs").glob("*/result.json")}
    (done / "runs" / "darts-cifar10-bdp-criterion=random-1" / "checkpoint.pt").unlink()
    process = reproduce(done, *arguments(nb201))
    output, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    assert "8 runs, of which 7 are finished" in output
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "(1 of 2)" not in (done / "fig3.md").read_text()


def test_other_settings_in_the_folder_are_refused(done, nb201):
    given = [*arguments(nb201), "--set=channels=3"]
    process = reproduce(done, *given)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "holds a run with other values of --channels" in errors


def test_killed_in_the_middle_it_goes_on(tmp_path, nb201):
    given = ["fig4", "--seeds", 1, "--jobs", 1, "--data", "digits", "--nb201", nb201]
    given += set_options()
    process = reproduce(tmp_path, *given)
    results = wait_for_results(tmp_path, 1, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    times = {path: path.stat().st_mtime_ns for path in results}
    process = reproduce(tmp_path, *given)
    _, errors = process.communicate(timeout=600)
    assert (process.returncode, errors) == (0, "")
    assert len(list((tmp_path / "runs").glob("*/result.json"))) == 4
    assert {path: path.stat().st_mtime_ns for path in times} == times
    # The run that was under way was not begun a second time beside itself.
    for log in (tmp_path / "runs").glob(f"*/{LOG}"):
        assert log.read_text().count("result.json") == 1
    assert (tmp_path / "fig4.png").exists()


def test_stopped_it_lets_the_runs_save(tmp_path, nb201):
    given = ["fig4", "--seeds", 1, "--jobs", 2, "--data", "digits", "--nb201", nb201]
    process = reproduce(tmp_path, *given, *set_options(epochs=400, interval=40))
    deadline = time.monotonic() + 300
    # An epoch each: before that a run has nothing to save, and may still be starting.
    while sum(path.stat().st_size > 0 for path in tmp_path.glob("runs/*/metrics.jsonl")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "go on with --resume" not in errors
    assert "run it again" in errors
    logs = [log.read_text() for log in (tmp_path / "runs").glob(f"*/{LOG}")]
    assert len(logs) == 2
    assert all("the state is saved" in log for log in logs)


def wait_for_results(out: Path, count: int, process: "subprocess.Popen[str]") -> list[Path]:
    deadline = time.monotonic() + 300
    while len(found := list((out / "runs").glob("*/result.json"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def test_retraining_waits_for_its_search_and_fails_with_it(tmp_path):
    scale = reduced_scale("digits").override(
        {**TINY, "cells": 3, "alpha_start": 0, "channels": 4, "epochs": 3},
        {"epochs": 1, "limit_train": 100, "evaluate_every": 1, "channels": 2, "cells": 3},
    )
    searched, trained = runs_of([EXPERIMENTS["table5"](scale)], scale, 1)[:2]
    assert trained.after == searched
    lines: list[str] = []
    runner = Runner(tmp_path, 2, "cpu", lines.append)
    assert runner.complete([searched, trained]) == {}
    result = json.loads((tmp_path / trained.name / "result.json").read_text())
    found = json.loads((tmp_path / searched.name / "result.json").read_text())
    assert result["genotype"] == found["architecture"]
    assert trained.finished(tmp_path)

    broken = tmp_path / "broken" / searched.name
    broken.mkdir(parents=True)
    (broken / "checkpoint.pt").write_bytes(b"damaged")
    failures = Runner(tmp_path / "broken", 2, "cpu", lines.append).complete([searched, trained])
    assert "damaged" in failures[searched.name]
    assert failures[trained.name].startswith("its search failed: ")
    assert os.listdir(tmp_path / "broken") == [searched.name]


def test_finished_retraining_of_another_cell_is_refused(tmp_path):
    scale = SCALES["reduced"]
    _, trained = runs_of([EXPERIMENTS["table6"](scale)], scale, 1)[:2]
    assert not trained.finished(tmp_path)
    (tmp_path / trained.name).mkdir()
    (tmp_path / trained.name / "config.json").write_text("{}")
    with pytest.raises(UserError, match="holds no settings"):
        trained.finished(tmp_path)
