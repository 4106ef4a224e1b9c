"""How the pictures look."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib

INK, FAINT, GRID, PAPER = "#1f2328", "#9aa4af", "#d8dee4", "#ffffff"
NODE_FACE, NODE_EDGE = "#dbe9f6", "#2b5b8a"
RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the first, second, ... run: Okabe and Ito's, which colour-blind people tell apart."""

WIDTH = 4.4
"""Inches: a column of a paper, and a phone's width at the size of the text."""

_SETTINGS: Any = {
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 200,
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": INK,
    "axes.facecolor": PAPER,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "image.cmap": "viridis",
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "bdp",  # the same runs give the same files
}


@contextmanager
def applied() -> Iterator[None]:
    """Figures made and saved in here look like this."""
    with matplotlib.rc_context(_SETTINGS):
        yield


def colour(number: int) -> str:
    """The colour of a run, counted from 0."""
    return RUNS[number % len(RUNS)]
