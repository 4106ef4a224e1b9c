"""Numbers of a finished run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bdp_ext.query import COLUMNS, Benchmark
from bdp_ext.reproduce.lines import NONE
from bdp_ext.reproduce.plan import Run
from bdp_ext.spaces import SPACES

Measures = dict[str, float]
"""Name -> value; what a run does not have is absent."""


def measure(run: Run, runs: Path, benchmark: Benchmark | None) -> Measures:
    """What a finished run measured.

    Args:
        runs: the folder of all runs.
        benchmark: in which cells of NAS-Bench-201 are looked up.

    Returns:
        Of the search: `samples` forwarded (for updates and by the pruner), `extra` of them by the
        pruner alone, `cpu` seconds, `pruner_cpu` of them in the pruner, `hours` and `days` of wall
        clock, `left` (per cent of the images after the last pruning),
        `balance_train` and `balance_valid` (b in the end), `skips` in the cell; accuracies in per
        cent by the benchmark's names, and with `NONE` those of the cell derived without `none`;
        `eigenvalue_largest`, `eigenvalue_last`, `best_on_the_way` where they are known. Of the
        retraining: `top1` and `top5` in per cent, `parameters` and `flops` in millions.
    """
    search = run.after or run
    measures = _search(_result(runs / search.name), history(runs / search.name), benchmark)
    if run.after:
        trained = _result(runs / run.name)
        measures |= {name: 100 * trained[name] for name in ("top1", "top5")}
        measures |= {name: trained[name] / 1e6 for name in ("parameters", "flops")}
    return measures


def architectures(run: Run, runs: Path) -> dict[str, str]:
    """What a finished search found, by both rules where there are two."""
    result = _result(runs / (run.after or run).name)
    return {name: result[name] for name in _RULES if name in result}


def history(folder: Path) -> list[dict[str, Any]]:
    """The records of a search's epochs."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


_RULES = {"architecture": "", "architecture_without_none": NONE}


def _result(folder: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def _search(
    result: dict[str, Any], epochs: Sequence[dict[str, Any]], benchmark: Benchmark | None
) -> Measures:
    first, last = epochs[0], epochs[-1]
    seconds = result["seconds"]
    images, left = (record["train"] + record["valid"] for record in (first, last))
    graphs = SPACES[result["space"]].graph(result["architecture"]).values()
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
    eigenvalues = [record["eigenvalue"] for record in epochs if "eigenvalue" in record]
    if eigenvalues:
        measures |= {"eigenvalue_largest": max(eigenvalues), "eigenvalue_last": eigenvalues[-1]}
    if benchmark and result["space"] == "nas-bench-201":
        for rule, suffix in _RULES.items():
            accuracy = benchmark.accuracy(result[rule])
            measures |= {column + suffix: accuracy[column] for column in COLUMNS}
        measures["best_on_the_way"] = max(
            benchmark.accuracy(record["architecture"])["cifar10_test"] for record in epochs
        )
    return measures
