"""The paper's Figures 3 and 4, from the folders of finished searches."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bdp_ext.query import Benchmark
from bdp_ext.reproduce.measure import history
from bdp_ext.reproduce.results import Outcome, Results
from bdp_ext.runs.files import write_atomically
from bdp_ext.spaces.nas_bench_201_cell import CANDIDATES, EDGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = ("png", "svg")


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
    finished = {
        row.label[0]: [o for o in results.of(row.label, "") if o.measures]
        for row in results.table.rows
    }
    finished = {name: outcomes for name, outcomes in finished.items() if outcomes}
    if not finished:
        return []
    import matplotlib

    painter = {"curves": _curves, "alphas": _alphas}[kind]
    figure = painter(finished, runs, benchmark)
    paths = [out.with_suffix(f".{suffix}") for suffix in FORMATS]
    # Text stays text, and the same runs give the same files.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "bdp"}):
        for path in paths:
            _save(figure, path)
    return paths


def _save(figure: "Figure", path: Path) -> None:
    kind = path.suffix[1:]
    metadata = {"Date": None} if kind == "svg" else None
    write_atomically(
        path, lambda file: figure.savefig(file, format=kind, dpi=150, metadata=metadata)
    )


Finished = dict[str, list[Outcome]]


def _curves(finished: Finished, runs: Path, benchmark: Benchmark) -> "Figure":
    """Accuracy of the epoch's cell, live samples of both levels, dominant eigenvalue."""
    from matplotlib.figure import Figure

    panels: Sequence[tuple[str, Callable[[dict[str, Any]], float | None]]] = (
        (
            "(a) CIFAR-10 test accuracy of the current cell (%)",
            lambda record: benchmark.accuracy(record["architecture"])["cifar10_test"],
        ),
        ("(b) samples of both levels", lambda record: record["train"] + record["valid"]),
        ("(c) dominant eigenvalue of the Hessian", lambda record: record.get("eigenvalue")),
    )
    figure = Figure(figsize=(15, 4.2), layout="constrained")
    for axes, (title, value) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for number, (name, outcomes) in enumerate(finished.items()):
            curves = [
                {r["epoch"]: y for r in history(runs / o.run.name) if (y := value(r)) is not None}
                for o in outcomes
            ]
            _curve(axes, curves, name, f"C{number}")
        axes.set(title=title, xlabel="epoch")
    figure.axes[0].legend()
    return figure


def _curve(axes: "Axes", curves: Sequence[dict[int, float]], name: str, color: str) -> None:
    """A thin line for each seed and a thick one for their mean."""
    epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
    if not epochs:
        return
    values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
    for line in values:
        axes.plot(epochs, line, color=color, linewidth=0.6, alpha=0.5)
    axes.plot(epochs, values.mean(0), color=color, linewidth=2, label=name)


def _alphas(finished: Finished, runs: Path, benchmark: Benchmark) -> "Figure":
    """softmax(alpha) at the end, a row a line of the table and a column a seed."""
    from matplotlib.figure import Figure

    seeds = max(len(outcomes) for outcomes in finished.values())
    figure = Figure(figsize=(3.4 * seeds + 1.5, 3.2 * len(finished)), layout="constrained")
    grid = figure.subplots(len(finished), seeds, squeeze=False)
    image = None
    for row, (name, outcomes) in zip(grid, finished.items(), strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, outcome in zip(row, outcomes, strict=False):
            alpha = torch.tensor(history(runs / outcome.run.name)[-1]["alpha"][0])
            axes.set_axis_on()
            image = axes.imshow(alpha.softmax(1), vmin=0, vmax=1, cmap="viridis", aspect="auto")
            accuracy = outcome.measures["cifar10_test"]
            axes.set_title(f"{name}, seed {outcome.seed}: {accuracy:.2f} %", fontsize=9)
            axes.set_xticks(range(len(CANDIDATES)), [*CANDIDATES], rotation=45, fontsize=7)
            edges = [f"{source} → {node}" for node, source in EDGES]
            axes.set_yticks(range(len(EDGES)), edges, fontsize=7)
    if image is not None:
        figure.colorbar(image, ax=grid, label="softmax(alpha)", shrink=0.5)
    return figure
