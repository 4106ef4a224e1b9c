"""The paper's Figures 3 and 4, from the folders of finished searches."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from bdp_ext.report import RecordedRun, curves, maps, style
from bdp_ext.report.output import rendered, write
from bdp_ext.reproduce.measure import recorded
from bdp_ext.reproduce.results import Results
from bdp_ext.spaces.nas_bench_201_results import Benchmark

FORMATS = ("png", "svg")
CIFAR10 = "cifar10_test"


def draw(kind: str, results: Results, runs: Path, benchmark: Benchmark, out: Path) -> list[Path]:
    """Draw a table's searches.

    Args:
        kind: "curves" (Fig. 3) or "alphas" (Fig. 4).
        results: of the searches.
        runs: the folder of all runs.
        benchmark: gives the accuracy of each epoch's cell.
        out: the picture's path without its suffix.

    Returns:
        The files written; none where no search has a result.
    """
    searches = [
        recorded(outcome.run, runs, row.label[0])
        for row in results.table.rows
        for outcome in results.of(row.label, "")
        if outcome.measures
    ]
    if not searches:
        return []
    with style.applied():
        figure = {"curves": _curves, "alphas": _alphas}[kind](searches, benchmark)
        paths = [out.with_suffix(f".{suffix}") for suffix in FORMATS]
        for path in paths:
            write(path, rendered(figure, path.suffix[1:]))
    return paths


def _curves(searches: Sequence[RecordedRun], benchmark: Benchmark) -> Figure:
    """Accuracy of the epoch's cell, live samples of both levels, dominant eigenvalue."""
    accuracy = partial(curves.benchmark, results=benchmark, column=CIFAR10)
    return curves.over_epochs(searches, accuracy, curves.sizes, curves.eigenvalue)


def _alphas(searches: Sequence[RecordedRun], benchmark: Benchmark) -> Figure:
    """softmax(alpha) at the end, in the table's order, seed by seed."""
    ends = {}
    for run in searches:
        found = run.accuracy(benchmark, CIFAR10)[-1]
        (alpha,) = run.alphas().values()
        title = f"{run.name}, seed {run.settings['seed']}: {found:.2f} %"
        ends[title] = alpha.weights[:, :, -1].T
    seeds = len({run.settings["seed"] for run in searches})
    return maps.heat_maps(ends, alpha.edges, seeds, alpha.candidates)
