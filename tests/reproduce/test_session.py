"""An experiment from end to end: killed, gone on with, written again."""

import csv
import json
import signal
import statistics
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from jobs import start, wait_until

from bdp_ext.errors import UserError
from bdp_ext.reproduce import pictures
from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.results import Results, from_folders
from bdp_ext.reproduce.runner import LOG
from bdp_ext.reproduce.scale import reduced_scale
from bdp_ext.spaces.nas_bench_201_results import Benchmark

from .common import TINY, reproduce, set_options

BROKEN = "darts-cifar10-bdp-criterion=random-1"


@pytest.fixture(scope="module")
def given(nb201) -> list[object]:
    common = ["fig3", "--seeds", 2, "--jobs", 2, "--data", "digits", "--nb201", nb201]
    return [*common, *set_options()]


@pytest.fixture(scope="module")
def done(tmp_path_factory, given) -> Path:
    """Figure 3 on digits, two seeds, killed and begun again; one of its eight runs fails."""
    out = tmp_path_factory.mktemp("reproduce")
    broken = out / "runs" / BROKEN
    broken.mkdir(parents=True)
    (broken / "checkpoint.pt").write_bytes(b"damaged")
    process = start("reproduce", "--out", out, *given)
    wait_until(lambda: list(out.glob("runs/*/result.json")), process)
    results = list(out.glob("runs/*/result.json"))
    process.send_signal(signal.SIGKILL)
    assert "8 runs, of which 0 are finished" in process.communicate()[0]
    times = {path: path.stat().st_mtime_ns for path in results}
    result = reproduce(out, *given)
    assert result.exit_code == 1
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "1 of 8 runs have no result" in result.stderr
    assert f"{BROKEN}: " in result.stderr
    assert "damaged or no checkpoint" in result.stderr
    # A run that was under way when we were killed was not begun a second time beside itself.
    for log in (out / "runs").glob(f"*/{LOG}"):
        assert log.read_text().count("result.json") == (log.parent.name != BROKEN)
    return out


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
    assert "![fig3](fig3.png)" in text
    assert (done / "fig3.png").read_bytes().startswith(b"\x89PNG")
    assert (done / "fig3.svg").read_text().rstrip().endswith("</svg>")


def test_alphas_at_the_end_are_drawn(done, nb201, tmp_path):
    scale = reduced_scale("digits").override(TINY, {})
    (table,) = EXPERIMENTS["fig3"](scale).tables
    benchmark = Benchmark(nb201)
    failures = {BROKEN: "it failed"}
    results = Results(table, scale, 2, from_folders(done / "runs", benchmark, failures))
    files = pictures.draw("alphas", results, done / "runs", benchmark, tmp_path / "fig4")
    assert [file.name for file in files] == ["fig4.png", "fig4.svg"]
    assert files[0].read_bytes().startswith(b"\x89PNG")
    texts = ["".join(e.itertext()) for e in ElementTree.parse(files[1]).iter() if e.text]
    for label, groups in results.outcomes.items():
        for found in groups[""]:
            accuracy = found.measures.get("cifar10_test")
            title = f"{label[0]}, seed {found.seed}: {accuracy or 0:.2f} %"
            assert (title in texts) == (accuracy is not None)
    assert {"0→1", "nor_conv_3x3"} <= set(texts)


def test_tables_are_written_again_without_the_runs(done, given, tmp_path):
    again = tmp_path / "again"
    assert reproduce(again, *given, "--recorded", done).exit_code == 0
    assert sorted(path.name for path in again.iterdir()) == ["fig3.csv", "fig3.json", "fig3.md"]
    for path in again.iterdir():
        assert path.read_text() == (done / path.name).read_text()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--recorded", "nowhere"], "fig3.json cannot be read"),
        (["--seeds", 3], "give the --scale, --seeds and --set"),
    ],
)
def test_a_record_that_does_not_fit_is_refused(done, given, tmp_path, more, sentence):
    error = reproduce(tmp_path / "out", *given, "--recorded", done, *more).exception
    assert isinstance(error, UserError)
    assert sentence in str(error)
    assert not (tmp_path / "out").exists()


def test_finished_runs_are_not_repeated_and_the_failed_one_is(done, given):
    times = {path: path.stat().st_mtime_ns for path in (done / "runs").glob("*/result.json")}
    (done / "runs" / BROKEN / "checkpoint.pt").unlink()
    result = reproduce(done, *given)
    assert result.exit_code == 0
    assert "8 runs, of which 7 are finished" in result.output
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert "(1 of 2)" not in (done / "fig3.md").read_text()


def test_other_settings_in_the_folder_are_refused(done, given):
    error = reproduce(done, *given, "--set=channels=3").exception
    assert isinstance(error, UserError)
    assert "holds a run with other values of --channels" in str(error)
