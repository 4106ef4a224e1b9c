"""How the plots look: their colours by what they are for, on light and on dark paper."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib

from bdp_ext.draw import FAINT, INK, NODE_EDGE, NODE_FACE, PAPER

GRID = "#d8dee4"
RUNS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Of the first, second, ... run: Okabe and Ito's, which colour-blind people tell apart."""

DARK = {
    INK: "#e6e8eb",
    FAINT: "#7d8793",
    GRID: "#363c44",
    PAPER: "#14171b",
    NODE_FACE: "#1f3a57",
    NODE_EDGE: "#7fb2e5",
    **dict(
        zip(RUNS, ("#4aa8e0", "#ff8243", "#2fc596", "#e39cc6", "#f0b93c", "#9fd8ff"), strict=True)
    ),
}
"""What stands for a colour on dark paper. Files have the colours on the left."""

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


def variable(light: str) -> str:
    """The CSS variable of a colour."""
    return f"--c{light[1:]}"


def css() -> str:
    """The variables of all colours, light and dark; paper that is printed on is light."""
    light = ";".join(f"{variable(colour)}:{colour}" for colour in DARK)
    dark = ";".join(f"{variable(colour)}:{other}" for colour, other in DARK.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
