"""Plots over the epochs, all runs in one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from bdp_ext.draw import INK
from bdp_ext.pruning import LEVELS
from bdp_ext.report.runs import Run, Series
from bdp_ext.report.style import RUNS, WIDTH, colour

HEIGHT = 2.5
LINE = 0.19  # of the legend, inches
CHARACTERS = 54  # in a line of it

DASHES = {"train": "-", "valid": (0, (4, 1.5))}
MARKERS = ("", "o", "s", "^", "D")  # tell runs apart once colours repeat


def sizes(runs: Sequence[Run]) -> Figure:
    """Samples of both levels in each epoch (the paper's Fig. 3 b)."""
    figure, axes = _figure(runs, LEVELS)
    for number, run in enumerate(runs):
        for level in LEVELS:
            _line(axes, number, run.epochs, run.series(level), level, **_steps(runs, number))
    axes.set_ylabel("samples")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def balance(runs: Sequence[Run]) -> Figure:
    """Class balance b of both levels in each epoch (Eq. 5)."""
    figure, axes = _figure(runs, LEVELS)
    for number, run in enumerate(runs):
        for level in LEVELS:
            values = run.series(f"{level}_balance")
            _line(axes, number, run.epochs, values, level, **_steps(runs, number))
    axes.set_ylabel("class balance b")
    axes.set_ylim(0, 1.02)
    return figure


def cost(runs: Sequence[Run]) -> Figure:
    """Samples forwarded so far, and what they would be had nothing been pruned."""
    labels = {"search": "-", "without pruning": ":"}
    figure, axes = _figure(runs, (), labels)
    for number, run in enumerate(runs):
        _line(axes, number, run.epochs, run.forwarded())
        if run.config.pruner_class:
            _line(axes, number, run.epochs, run.unpruned(), linestyle=":", zorder=3)
    axes.set_ylabel("samples forwarded")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    return figure


def accuracy(runs: Sequence[Run]) -> Figure:
    """Accuracy of the supernet on each level's live samples, in the passes that updated it."""
    figure, axes = _figure(runs, LEVELS)
    for number, run in enumerate(runs):
        for level in LEVELS:
            values = run.series(f"{level}_accuracy").copy()
            values[run.series(f"{level}_seen") == 0] = np.nan  # alpha does not move yet
            _line(axes, number, run.epochs, values, level)
    axes.set_ylabel("supernet accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_ylim(0, 1.02)
    return figure


def eigenvalue(runs: Sequence[Run]) -> Figure:
    """Dominant eigenvalue of the Hessian of the validation loss with respect to alpha (the paper's
    Fig. 3 c)."""
    figure, axes = _figure(runs)
    for number, run in enumerate(runs):
        values = run.series("eigenvalue")
        known = ~np.isnan(values)
        _line(axes, number, run.epochs[known], values[known], marker=".")
    axes.set_ylabel("dominant eigenvalue")
    return figure


def benchmark(runs: Sequence[Run], accuracies: Mapping[str, Series], best: float) -> Figure:
    """Accuracy in NAS-Bench-201 of the cell that alpha stands for after each epoch (the paper's
    Fig. 3 a).

    Args:
        runs: of the report.
        accuracies: by run, of those that search in this space: [E] per cent, NaN: not in the file.
        best: of all cells in the file.
    """
    figure, axes = _figure(runs, (), {"best cell of the file": ":"})
    for number, run in enumerate(runs):
        if run.name in accuracies:
            _line(axes, number, run.epochs, accuracies[run.name], **_steps(runs, number))
    axes.axhline(best, color=INK, linestyle=":", linewidth=1.2)
    axes.set_ylabel("accuracy (%)")
    return figure


def _figure(
    runs: Sequence[Run], levels: Sequence[str] = (), lines: Mapping[str, Any] | None = None
) -> tuple[Figure, Axes]:
    """An empty plot with the runs' colours above it, and below it what each kind of line is."""
    lines = {level: DASHES[level] for level in levels} | dict(lines or {})
    runs_height, kinds_height = _legend_lines([run.name for run in runs]), _legend_lines(lines)
    height = HEIGHT + LINE * (runs_height + kinds_height)
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _legend(
        figure,
        "outside upper center",
        {run.name: _style(number) for number, run in enumerate(runs)},
    )
    if lines:
        looks = {name: {"color": INK, "linestyle": dash} for name, dash in lines.items()}
        _legend(figure, "outside lower center", looks)
    return figure, axes


def _legend(figure: Figure, place: Any, entries: Mapping[str, Mapping[str, Any]]) -> None:
    columns = -(-len(entries) // _legend_lines(entries))
    handles = [Line2D([], [], **look) for look in entries.values()]
    legend = figure.legend(
        handles,
        [" "] * len(handles),  # a label that begins with an underscore would hide its entry
        loc=place,
        ncols=columns,
        borderaxespad=0.1,
    )
    for text, name in zip(legend.get_texts(), entries, strict=True):
        text.set_parse_math(False)  # nor may a $ in it begin a formula
        text.set_text(name)


def _legend_lines(names: Sequence[str] | Mapping[str, Any]) -> int:
    if not names:
        return 0
    columns = max(1, CHARACTERS // (7 + max(map(len, names))))
    return -(-len(names) // columns)


def _style(number: int) -> dict[str, Any]:
    marker = MARKERS[number // len(RUNS) % len(MARKERS)]
    return {"color": colour(number), "marker": marker, "markersize": 3}


def _line(
    axes: Axes, number: int, x: Series, y: Series, level: str | None = None, **look: Any
) -> None:
    dash = {"linestyle": DASHES[level]} if level else {}
    if len(x) == 1:
        look["marker"] = "."
    axes.plot(x, y, **(_style(number) | dash | look))


def _steps(runs: Sequence[Run], number: int) -> dict[str, Any]:
    """The look of what runs of the same settings share: the earlier run's line shows at the edges
    of the later one's."""
    return {"drawstyle": "steps-mid", "linewidth": min(1.5 + 0.7 * (len(runs) - 1 - number), 4)}
