"""Plots over the epochs, all runs in one."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bdp_ext.pruning import LEVELS
from bdp_ext.report.runs import RecordedRun, Series
from bdp_ext.report.style import INK, RUNS, WIDTH, colour
from bdp_ext.spaces.nas_bench_201_results import Benchmark

HEIGHT = 2.5
LINE = 0.19  # of the legend, inches
CHARACTERS = 54  # in a line of it

DASHES = {"train": "-", "valid": (0, (4, 1.5))}
MARKERS = ("", "o", "s", "^", "D")  # tell runs apart once colours repeat

Runs = Sequence[RecordedRun]
"""Those of one name are the seeds of a search and have as many epochs: they share a colour, and a
thick line is their mean."""
Kinds = Mapping[str, Any]
"""What kinds of lines a plot has, and their dashes."""


def sizes(axes: Axes, runs: Runs) -> Kinds:
    """Samples of both levels in each epoch (the paper's Fig. 3 b)."""
    for level in LEVELS:
        values = partial(RecordedRun.series, key=level)
        _lines(axes, runs, values, DASHES[level], steps=True)
    axes.set_ylabel("samples")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return DASHES


def balance(axes: Axes, runs: Runs) -> Kinds:
    """Class balance b of both levels in each epoch (Eq. 5)."""
    for level in LEVELS:
        values = partial(RecordedRun.series, key=f"{level}_balance")
        _lines(axes, runs, values, DASHES[level], steps=True)
    axes.set_ylabel("class balance b")
    axes.set_ylim(0, 1.02)
    return DASHES


def cost(axes: Axes, runs: Runs) -> Kinds:
    """Samples forwarded so far, and what they would be had nothing been pruned."""
    _lines(axes, runs, RecordedRun.forwarded)
    _lines(axes, runs, lambda run: run.unpruned() * (1 if run.pruned else np.nan), ":", zorder=3)
    axes.set_ylabel("samples forwarded")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return {"search": "-", "without pruning": ":"}


def accuracy(axes: Axes, runs: Runs) -> Kinds:
    """Accuracy of the supernet on each level's live samples, in the passes that updated it."""
    for level in LEVELS:

        def values(run: RecordedRun, level: str = level) -> Series:
            moved = run.series(f"{level}_seen") > 0  # alpha does not at first
            return np.where(moved, run.series(f"{level}_accuracy"), np.nan)

        _lines(axes, runs, values, DASHES[level])
    axes.set_ylabel("supernet accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.02)
    return DASHES


def eigenvalue(axes: Axes, runs: Runs) -> Kinds:
    """Dominant eigenvalue of the Hessian of the validation loss with respect to alpha (the paper's
    Fig. 3 c)."""
    _lines(axes, runs, partial(RecordedRun.series, key="eigenvalue"), gaps=False, marker=".")
    axes.set_ylabel("dominant eigenvalue")
    return {}


def benchmark(axes: Axes, runs: Runs, results: Benchmark, column: str) -> Kinds:
    """Accuracy in NAS-Bench-201 of the cell that alpha stands for after each epoch (the paper's
    Fig. 3 a)."""
    _lines(axes, runs, lambda run: run.accuracy(results, column), steps=True)
    axes.axhline(results.best(column), color=INK, linestyle=":", linewidth=1.2)
    axes.set_ylabel("accuracy (%)")
    return {"best cell of the file": ":"}


def over_epochs(runs: Runs, *plots: Callable[[Axes, Runs], Kinds]) -> Figure:
    """Plots beside each other, with the runs' colours above and the kinds of lines below."""
    width = WIDTH * len(plots)
    figure = Figure(layout="constrained")
    kinds: dict[str, Any] = {}
    for axes, plot in zip(figure.subplots(1, len(plots), squeeze=False)[0], plots, strict=True):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        kinds |= plot(axes, runs)
    names = {name: _look(number) for number, name in enumerate(_by_name(runs))}
    looks = {name: {"color": INK, "linestyle": dash} for name, dash in kinds.items()}
    lines = _legend(figure, "outside upper center", names, len(plots))
    lines += _legend(figure, "outside lower center", looks, len(plots))
    figure.set_size_inches(width, HEIGHT + LINE * lines)
    return figure


def _by_name(runs: Runs) -> dict[str, list[RecordedRun]]:
    return {run.name: [other for other in runs if other.name == run.name] for run in runs}


def _legend(
    figure: Figure, place: Any, entries: Mapping[str, Mapping[str, Any]], plots: int
) -> int:
    """How many lines it has."""
    if not entries:
        return 0
    columns = max(1, plots * CHARACTERS // (7 + max(map(len, entries))))
    lines = -(-len(entries) // columns)
    handles = [Line2D([], [], **look) for look in entries.values()]
    legend = figure.legend(
        handles,
        [" "] * len(handles),  # a label that begins with an underscore would hide its entry
        loc=place,
        ncols=-(-len(entries) // lines),
        borderaxespad=0.1,
    )
    for text, name in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)  # nor may a $ in it begin a formula
        text.set_text(name)
    return lines


def _look(number: int) -> dict[str, Any]:
    marker = MARKERS[number // len(RUNS) % len(MARKERS)]
    return {"color": colour(number), "marker": marker, "markersize": 3}


def _lines(
    axes: Axes,
    runs: Runs,
    values: Callable[[RecordedRun], Series],
    dash: Any = "-",
    *,
    steps: bool = False,
    gaps: bool = True,
    **more: Any,
) -> None:
    """A line for each run.

    Args:
        steps: values that runs of the same settings share: the earlier run's line shows at the
            edges of the later one's.
        gaps: leave them where a value is not known.
    """
    groups = list(_by_name(runs).values())
    for number, seeds in enumerate(groups):
        look = _look(number) | {"linestyle": dash} | more
        if steps:
            wide = min(1.5 + 0.7 * (len(groups) - 1 - number), 4)
            look |= {"drawstyle": "steps-mid", "linewidth": wide}
        lines = [values(run) for run in seeds]
        thin = {"linewidth": 0.6, "alpha": 0.5}
        drawn = [(y, look | thin) for y in lines] if len(lines) > 1 else []
        for y, own in [*drawn, (np.mean(lines, axis=0), look)]:
            x = seeds[0].epochs
            shown = slice(None) if gaps else ~np.isnan(y)
            axes.plot(x[shown], y[shown], **(own if len(x) > 1 else own | {"marker": "."}))
