"""Plots of one run: alpha over the epochs, the histograms of VoE, the pruned images."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bdp_ext.pruning.history import edges, histogram
from bdp_ext.report.runs import AlphaHistory, Series
from bdp_ext.report.style import FAINT, WIDTH
from bdp_ext.search.pruning_history import PruningRecord

ROW = 0.12  # of a heat map, inches


def alpha(values: AlphaHistory) -> Figure:
    """Softmax of an alpha: a heat map [edges, epochs] for each candidate (the paper's Fig. 4, over
    time)."""
    return heat_maps(dict(zip(values.candidates, values.weights, strict=True)), values.edges, 2)


def heat_maps(
    maps: Mapping[str, Series], edges: Sequence[str], columns: int, candidates: Sequence[str] = ()
) -> Figure:
    """Parts of alphas, in one scale.

    Args:
        maps: by their titles, each [edges, epochs] or [edges, candidates].
        edges: their names.
        columns: maps beside each other.
        candidates: their names; none: the columns are epochs.
    """
    rows = math.ceil(len(maps) / columns)
    height = max(0.7, ROW * len(edges))
    width = WIDTH * (0.7 if candidates else 0.5)
    size = (columns * width, rows * (height + 0.35) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    least, most = np.nanmin([*maps.values()]), np.nanmax([*maps.values()])
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, (name, weights) in zip(grid.flat, maps.items(), strict=False):
        axes.set_axis_on()
        axes.grid(False)
        image = axes.imshow(
            weights,
            aspect="auto",
            interpolation="none",  # the page's browser scales it
            extent=(0.5, weights.shape[1] + 0.5, len(edges) - 0.5, -0.5),
            vmin=least,
            vmax=most,
        )
        axes.set_title(name, pad=3)
        axes.set_yticks(range(len(edges)), edges, fontsize=6.5)
        axes.tick_params(axis="y", length=0, pad=1)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        if candidates:
            axes.set_xticks(range(1, 1 + len(candidates)), candidates, rotation=45, fontsize=6.5)
    for axes in grid[-1]:
        axes.set_xlabel("" if candidates else "epoch")
    bar = figure.colorbar(
        image,
        ax=grid,
        location="bottom",
        shrink=0.7,
        aspect=40,
        pad=0.02,
        ticks=MaxNLocator(4),
    )
    assert bar.solids is not None
    bar.solids.set_rasterized(True)  # 256 rectangles otherwise
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7)
    return figure


def voe(pruned: PruningRecord, color: str) -> Figure:
    """Before each pruning of a level, how the VoE of its live samples is spread, and what was taken
    of it; each in its own height.

    Args:
        pruned: at least one pruning.
        color: of what was taken.
    """
    prunings = len(pruned.epochs)
    row = max(0.28, min(0.8, 6 / prunings))
    figure = Figure(figsize=(WIDTH, row * prunings + 0.9), layout="constrained")
    axes = figure.add_subplot()
    bins = edges().numpy()
    for pruning, counts in enumerate(pruned.histograms):
        taken = histogram(torch.from_numpy(pruned.voe[pruned.at(pruning)])).numpy()
        scale = 0.85 / max(1, counts.max())
        for values, look in ((counts, {"color": FAINT, "alpha": 0.45}), (taken, {"color": color})):
            heights = values * scale - pruning
            axes.stairs(heights, bins, baseline=-pruning, fill=True, linewidth=0, **look)
    occupied = pruned.histograms.sum(0).nonzero()[0]
    axes.set_xscale("log")
    axes.set_xlim(bins[occupied[0]], bins[occupied[-1] + 1])
    axes.set_xlabel("VoE")
    axes.set_ylabel("after epoch")
    axes.set_yticks([-pruning for pruning in range(prunings)], [str(e) for e in pruned.epochs])
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    figure.legend(
        handles=[Patch(color=FAINT, alpha=0.45), Patch(color=color)],
        labels=["live before the pruning", "pruned"],
        loc="outside lower center",
        ncols=2,
        borderaxespad=0.1,
    )
    return figure


@dataclass(frozen=True)
class ImageRow:
    """Images of one pruning.

    Attributes:
        title: of the row.
        images: [M, 3, H, W] uint8.
        names: their classes.
    """

    title: str
    images: Tensor
    names: Sequence[str]


COLUMNS = 8
LETTERS = 9  # of a class's name below an image


def images(rows: Sequence[ImageRow]) -> Figure:
    """Pruned images, with the names of their classes below them."""
    title, label, gap = 0.45, 0.3, 0.1  # in images
    heights = [title + (1 + label) * math.ceil(len(row.images) / COLUMNS) for row in rows]
    height = sum(heights)
    unit = WIDTH / (COLUMNS + gap)
    figure = Figure(figsize=(WIDTH, height * unit))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    top = 0.0
    for row, own in zip(rows, heights, strict=True):
        axes.text(gap, top + title * 0.6, row.title, va="center")
        for number, (image, name) in enumerate(zip(row.images, row.names, strict=True)):
            down, across = divmod(number, COLUMNS)
            x, y = across + gap, top + title + down * (1 + label)
            pixels = image.permute(1, 2, 0).numpy()
            axes.imshow(pixels, extent=(x, x + 1 - gap, y + 1 - gap, y), interpolation="none")
            short = name if len(name) <= LETTERS else name[: LETTERS - 1] + "…"
            middle = x + (1 - gap) / 2
            axes.text(
                middle,
                y + 1.02,
                short,
                ha="center",
                va="center",
                fontsize=7,
                parse_math=False,  # a folder's name may hold a $
            )
        top += own
    axes.set_xlim(0, COLUMNS + gap)
    axes.set_ylim(height, 0)
    return figure
