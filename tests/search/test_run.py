"""A search with a folder: what is in it, killed and resumed, and files that are not ours."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from jobs import CONFIG, Silent

from bdp_ext import cli
from bdp_ext.errors import UserError
from bdp_ext.report import write_report
from bdp_ext.runs import checkpoint
from bdp_ext.runs.files import write_atomically
from bdp_ext.runs.folder import Interrupted
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.run import HISTORY, PRUNING, run

FLAGS = (
    *("--epochs", "6", "--interval", "2", "--channels", "4", "--cells", "1", "--batch-size", "16"),
    *("--limit-train", "800", "--keep-train", ".2", "--keep-valid", ".2", "--threads", "1"),
)


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "bdp_ext", *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def outcome(folder: Path) -> dict:
    result = json.loads((folder / "result.json").read_text())
    return {key: result[key] for key in ("architecture", "alpha", "prunings", "samples", "history")}


def wait_for(path: Path, lines: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while not path.exists() or path.read_text().count("\n") < lines:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The folder of a search."""
    folder = tmp_path_factory.mktemp("finished")
    run(CONFIG, folder, resume=False, observer=Silent())
    return folder


@pytest.fixture
def copied(finished, tmp_path) -> Path:
    """Another folder with the same search."""
    return shutil.copytree(finished, tmp_path / "copied")


def test_folder_holds_what_the_readme_promises(tmp_path):
    result = run(CONFIG, tmp_path, resume=False, observer=Silent())
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert list(result) == [
        "space",
        "method",
        "pruner",
        "data",
        "seed",
        "epochs",
        "architecture",
        "architecture_without_none",
        "alpha",
        "samples",
        "samples_extra",
        "samples_unpruned",
        "cost_saved",
        "seconds",
        "history",
        "prunings",
        "versions",
    ]
    assert set(result["seconds"]) == {"wall", "cpu", "scoring", "selecting", "passes"}
    assert [set(row) for row in result["history"]] == [set(HISTORY)] * 3
    assert [set(row) for row in result["prunings"]] == [set(PRUNING)] * 2
    forwarded, unpruned = result["samples"], result["samples_unpruned"]
    sizes = [row["train"] for row in result["history"]]
    assert sizes == [100, 100, 50]
    assert (forwarded["train"], unpruned["train"]) == (250, 300)
    assert result["cost_saved"] == 1 - sum(forwarded.values()) / sum(unpruned.values())
    metrics = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in metrics] == [1, 2, 3]
    assert metrics[-1]["alpha"] == [result["alpha"]]
    assert SearchConfig(**json.loads((tmp_path / "config.json").read_text())) == CONFIG
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert checkpoint.read(tmp_path / "checkpoint.pt", "search")["format"] == "bdp_ext search 2"


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("whole")
    cli.bdp.main(["search", "--out", str(folder), *FLAGS], standalone_mode=False)
    return outcome(folder)


def test_killed_at_any_moment_and_resumed_ends_the_same(tmp_path, never_killed, bdp):
    metrics = tmp_path / "metrics.jsonl"
    arguments = ["search", "--out", str(tmp_path), "--resume"]
    for lines, delay in ((0, 0.0), (1, 0.0), (3, 0.07)):
        process = start(*arguments, *(FLAGS if lines == 0 else []))
        wait_for(metrics, lines, process)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    code, _, errors = bdp(*arguments)
    assert (code, errors) == (0, "")
    assert outcome(tmp_path) == never_killed
    epochs = [json.loads(line)["epoch"] for line in metrics.read_text().splitlines()]
    assert epochs == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_saves_in_mid_epoch_and_resumes(tmp_path, never_killed, bdp):
    process = start("search", "--out", str(tmp_path), *FLAGS)
    wait_for(tmp_path / "metrics.jsonl", 1, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "bdp: stopped; the state is saved, go on with --resume.\n"
    state = checkpoint.read(tmp_path / "checkpoint.pt", "search")
    assert state["search"]["steps"] > 0
    assert bdp("search", "--out", tmp_path, "--resume")[0] == 0
    assert outcome(tmp_path) == never_killed


def test_stop_between_two_steps_is_exact(tmp_path, finished):
    stop = Silent({3: lambda: os.kill(os.getpid(), signal.SIGTERM)})
    with pytest.raises(Interrupted):
        run(CONFIG, tmp_path / "stopped", resume=False, observer=stop)
    assert checkpoint.read(tmp_path / "stopped/checkpoint.pt", "search")["search"]["steps"] == 3
    run(CONFIG, tmp_path / "stopped", resume=True, observer=Silent())
    assert outcome(tmp_path / "stopped") == outcome(finished)


def test_finished_run_resumes_to_its_result(copied, finished):
    (copied / "result.json").unlink()
    run(CONFIG, copied, resume=True, observer=Silent())
    assert outcome(copied) == outcome(finished)


def test_refuses_to_overwrite_a_run(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("kept")
    with pytest.raises(UserError, match=r"holds a run already \(metrics.jsonl\)"):
        run(CONFIG, tmp_path, resume=False, observer=Silent())
    assert (tmp_path / "metrics.jsonl").read_text() == "kept"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: content[: len(content) // 2], "damaged or no checkpoint"),
        (lambda content: b"", "damaged or no checkpoint"),
        (lambda content: b"foreign" * 100, "damaged or no checkpoint"),
    ],
)
def test_damaged_checkpoint_is_refused_and_left(copied, damage, message):
    file = copied / "checkpoint.pt"
    damaged = damage(file.read_bytes())
    file.write_bytes(damaged)
    before = sorted(path.name for path in copied.iterdir())
    with pytest.raises(UserError, match=message):
        run(CONFIG, copied, resume=True, observer=Silent())
    assert file.read_bytes() == damaged
    assert sorted(path.name for path in copied.iterdir()) == before


def test_foreign_but_whole_checkpoint_is_refused(tmp_path):
    for foreign in ({"epoch": 3}, [1, 2]):
        torch.save(foreign, tmp_path / "checkpoint.pt")
        with pytest.raises(UserError, match="not a search's checkpoint of this version"):
            run(CONFIG, tmp_path, resume=True, observer=Silent())


def test_resume_with_other_settings_or_images_is_refused(copied):
    other = SearchConfig(**{**vars(CONFIG), "epochs": 5, "seed": 3})
    with pytest.raises(UserError, match=r"other values of --epochs, --seed"):
        run(other, copied, resume=True, observer=Silent())
    state = torch.load(copied / "checkpoint.pt", weights_only=True)
    state["search"]["fingerprint"] += 1
    torch.save(state, copied / "checkpoint.pt")
    with pytest.raises(UserError, match="the images of digits are not those"):
        run(CONFIG, copied, resume=True, observer=Silent())


def test_foreign_config_is_refused(tmp_path, bdp):
    (tmp_path / "config.json").write_text('{"model": "resnet"}')
    code, _, errors = bdp("search", "--out", tmp_path, "--resume")
    assert (code, "holds no settings of a search" in errors) == (2, True)
    assert (tmp_path / "config.json").read_text() == '{"model": "resnet"}'


def test_write_that_breaks_off_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("options", "pruner"),
    [({"bdp": False}, "none"), ({"pruner": "none"}, "none"), ({"pruner": "glister"}, "glister")],
)
def test_runs_without_pruning_and_with_other_pruners(tmp_path, options, pruner):
    config = SearchConfig.of(
        epochs=4, interval=2, channels=2, cells=1, limit_train=100, batch_size=32, **options
    )
    result = run(config, tmp_path / "run", resume=False, observer=Silent())
    assert result["pruner"] == pruner
    assert (tmp_path / "run" / "pruned.npz").exists() == (pruner != "none")
    assert len(result["prunings"]) == (0 if pruner == "none" else 2)
    write_report([tmp_path / "run"], tmp_path / "report.html")
    assert "glister" in (tmp_path / "report.html").read_text() or pruner == "none"
