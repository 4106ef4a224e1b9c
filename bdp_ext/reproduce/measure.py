"""Numbers of a finished run."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from bdp_ext.report import RecordedRun, read_run
from bdp_ext.reproduce.plan import PlannedRun
from bdp_ext.reproduce.rows import WITHOUT_NONE
from bdp_ext.spaces.nas_bench_201_results import COLUMNS, Benchmark

Measures = dict[str, float]
"""Name -> value; what a run does not have is absent."""


def measure(run: PlannedRun, runs: Path, benchmark: Benchmark | None) -> Measures:
    """What a finished run measured.

    Args:
        runs: the folder of all runs.
        benchmark: in which cells of NAS-Bench-201 are looked up.

    Returns:
        Of the search: `samples` forwarded (for updates and by the pruner), `extra` of them by the
        pruner alone, `cpu` seconds, `pruner_cpu` of them in the pruner, `hours` and `days` of wall
        clock, `left` (per cent of the images after the last pruning),
        `balance_train` and `balance_valid` (b in the end), `skips` in the cell; accuracies in per
        cent by the benchmark's names, and with `WITHOUT_NONE` those of the cell derived without
        `none`; `eigenvalue_largest`, `eigenvalue_last`, `best_on_the_way` where they are known.
        Of the retraining: `top1` and `top5` in per cent, `parameters` and `flops` in millions.
    """
    search = run.after or run
    measures = _search(recorded(search, runs), _result(runs / search.name), benchmark)
    if run.after:
        trained = _result(runs / run.name)
        measures |= {name: 100 * trained[name] for name in ("top1", "top5")}
        measures |= {name: trained[name] / 1e6 for name in ("parameters", "flops")}
    return measures


def architectures(run: PlannedRun, runs: Path) -> dict[str, str]:
    """What a finished search found, by both rules where there are two."""
    result = _result(runs / (run.after or run).name)
    return {name: result[name] for name in RULES if name in result}


def recorded(search: PlannedRun, runs: Path, name: str = "") -> RecordedRun:
    """A search's folder as it is, under a name; the plan says whose space and method it has."""
    named = [[search.options.get(option, "")] for option in ("space", "method")]
    return read_run(runs / search.name, name, *named)


RULES = {"architecture": "", "architecture_without_none": WITHOUT_NONE}


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def _search(run: RecordedRun, result: dict[str, Any], benchmark: Benchmark | None) -> Measures:
    first, last = run.records[0], run.records[-1]
    seconds = result["seconds"]
    images, left = (record["train"] + record["valid"] for record in (first, last))
    graphs = run.space.graph(result["architecture"]).values()
    extra = sum(result["samples_extra"].values())
    measures: Measures = {
        "samples": sum(result["samples"].values()) + extra,
        "extra": extra,
        "cpu": seconds["cpu"],
        "pruner_cpu": sum(seconds[part] for part in ("scoring", "selecting", "passes")),
        "hours": seconds["wall"] / 3600,
        "days": seconds["wall"] / 86400,
        "left": 100 * left / images,
        "balance_train": last["train_balance"],
        "balance_valid": last["valid_balance"],
        "skips": sum("skip" in edge[2] for graph in graphs for edge in graph),
    }
    eigenvalues = [record["eigenvalue"] for record in run.records if "eigenvalue" in record]
    if eigenvalues:
        measures |= {"eigenvalue_largest": max(eigenvalues), "eigenvalue_last": eigenvalues[-1]}
    if benchmark and run.in_benchmark:
        for rule, suffix in RULES.items():
            accuracy = benchmark.accuracy(result[rule])
            measures |= {column + suffix: accuracy[column] for column in COLUMNS}
        measures["best_on_the_way"] = float(np.nanmax(run.accuracy(benchmark, "cifar10_test")))
    return measures
