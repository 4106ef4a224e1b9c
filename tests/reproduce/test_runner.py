"""Processes side by side: stopped, and after each other."""

import json
import os
import signal

from jobs import start, wait_until

from bdp_ext.reproduce.experiments import EXPERIMENTS
from bdp_ext.reproduce.plan import runs_of
from bdp_ext.reproduce.runner import LOG, Runner
from bdp_ext.reproduce.scale import reduced_scale

from .common import TINY, set_options


def test_stopped_it_lets_the_runs_save(tmp_path, nb201):
    given = ["fig4", "--seeds", 1, "--jobs", 2, "--data", "digits", "--nb201", nb201]
    process = start("reproduce", "--out", tmp_path, *given, *set_options(epochs=400, interval=40))
    # An epoch each: before that a run has nothing to save, and may still be starting.
    metrics = "runs/*/metrics.jsonl"
    wait_until(lambda: sum(f.stat().st_size > 0 for f in tmp_path.glob(metrics)) == 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "go on with --resume" not in errors
    assert "run it again" in errors
    logs = [log.read_text() for log in (tmp_path / "runs").glob(f"*/{LOG}")]
    assert len(logs) == 2
    assert all("the state is saved" in log for log in logs)


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
