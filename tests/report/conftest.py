"""Small searches, recorded once for all tests of the report and all workers of pytest."""

import fcntl
import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from bdp_ext.search.config import SearchConfig
from bdp_ext.search.run import run
from bdp_ext.spaces.nas_bench_201_results import COLUMNS

SMALL = {
    "epochs": 6,
    "interval": 2,
    "channels": 2,
    "cells": 1,
    "limit_train": 200,
    "keep_train": 0.4,
    "keep_valid": 0.4,
    "threads": 1,
}
DARTS = {**SMALL, "space": "darts", "cells": 3, "limit_train": 120}
P_DARTS = {
    **DARTS,
    "method": "p-darts",
    "epochs": 4,
    "alpha_start": 1,
    "channels": 1,
    "limit_train": 40,
    "batch_size": 20,
}
RUNS = {
    "seed0": {**SMALL, "eigenvalue_every": 2},
    "seed1": {**SMALL, "seed": 1, "criterion": "random"},
    "whole": {**SMALL, "bdp": False},
    "darts": DARTS,
    "p-darts": P_DARTS,
}


@pytest.fixture(scope="session")
def folders(tmp_path_factory) -> dict[str, Path]:
    parent = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        parent = parent.parent
    parent /= "recorded"
    parent.mkdir(exist_ok=True)
    with (parent / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, settings in RUNS.items():
            if not (parent / name / "result.json").exists():
                run(SearchConfig.of(**settings), parent / name, resume=False, observer=Mock())
    return {name: parent / name for name in RUNS}


@pytest.fixture(scope="session")
def table(folders, tmp_path_factory) -> Path:
    """A table of NAS-Bench-201's form with the cells of the first run and one that is better."""
    cells = {row["architecture"] for row in records(folders["seed0"])}
    best = "|" + "|+|".join(["nor_conv_3x3~0", "nor_conv_3x3~0|nor_conv_3x3~1"])
    best += "|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    lines = [",".join(("index", "arch_str", *COLUMNS, "flops", "params"))]
    for number, cell in enumerate([*sorted(cells - {best}), best]):
        lines.append(",".join([str(number), cell, *[str(50 + number / 8)] * 6, "12.5", "0.25"]))
    file = tmp_path_factory.mktemp("table") / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def set_in(folder: Path, **settings: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **settings}))
