"""Pictures of graphs: nodes in a row, above them an arc for each operation, below them one for each
unlabelled edge."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path as Curve

from bdp_ext.errors import UserError
from bdp_ext.report import output, style
from bdp_ext.report.style import FAINT, INK, NODE_EDGE, NODE_FACE, PAPER
from bdp_ext.spaces.space import Edge

FORMATS = ("svg", "png", "pdf")
ABSENT = "none"  # the operation of an edge that is not there

# Inches.
CHARACTER = 0.075  # of a label
STEP = 0.75  # between nodes, and a label's length more
RISE = 0.42  # of an arc, for each node it reaches over
BASE = 0.22  # and more for all
REPEAT = 0.2  # of an arc beside another one
NODE = (0.07, 0.16)  # from a node's middle to where an arc begins or ends
MARGIN = 0.45


def draw(graphs: Mapping[str, Sequence[Edge]], path: Path) -> None:
    """Draw graphs, one below the other, into one picture.

    Args:
        graphs: what `Space.graph` gives: by name, arrows (from, to, operation). A graph has no
            cycle.
        path: .svg, .png or .pdf; written whole or not at all.

    Raises:
        UserError: another suffix, or a place that cannot be written.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise UserError(f"--out {path} must end in .{', .'.join(FORMATS)}.")
    with style.applied():
        output.write(path, output.rendered(picture(graphs), kind))


def picture(graphs: Mapping[str, Sequence[Edge]]) -> Figure:
    """The picture of graphs, one below the other (see `draw`)."""
    boxes = [_size(edges) for edges in graphs.values()]
    width, height = max(w for w, _ in boxes), sum(h for _, h in boxes)
    figure = Figure(figsize=(width, height))
    top = height
    for (name, edges), (_, own) in zip(graphs.items(), boxes, strict=True):
        top -= own
        axes = figure.add_axes((0, top / height, 1, own / height))
        _draw(axes, name, edges, width, own)
    return figure


def _draw(axes: Axes, name: str, edges: Sequence[Edge], width: float, height: float) -> None:
    """One graph; the unit of the axes is an inch, and the row of nodes is at 0."""
    place = _places(edges)
    below = -_reach(edges, labelled=False) - MARGIN
    axes.set_xlim(-MARGIN - 0.25, width - MARGIN - 0.25)
    axes.set_ylim(below, below + height)
    axes.set_axis_off()
    axes.text(
        -MARGIN, below + height - 0.1, name, va="top", color=INK, fontsize=11, fontweight="bold"
    )
    for edge, height_of_arc in zip(edges, _heights(edges, place), strict=True):
        _arc(axes, place[edge[0]], place[edge[1]], height_of_arc, edge[2])
    for node, x in place.items():
        label = f"${node}$" if "_" in node else node
        axes.text(
            x,
            0,
            label,
            ha="center",
            va="center",
            color=INK,
            fontsize=10,
            bbox={"boxstyle": "round,pad=0.35", "facecolor": NODE_FACE, "edgecolor": NODE_EDGE},
        )


def _arc(axes: Axes, start: float, end: float, height: float, label: str) -> None:
    """An arrow from one node to another; `height` is that of its middle."""
    middle = (start + end) / 2
    color = FAINT if label in ("", ABSENT) else INK
    aside, up = NODE[0], math.copysign(NODE[1], height)
    # The middle of such a curve is half-way between its ends and the point in between.
    points = [(start + aside, up), (middle, 2 * height - up), (end - aside, up)]
    axes.add_patch(
        FancyArrowPatch(
            path=Curve(points, [Curve.MOVETO, Curve.CURVE3, Curve.CURVE3]),
            arrowstyle="-|>",
            mutation_scale=11,
            color=color,
            linestyle=":" if label == ABSENT else "-",
        )
    )
    if label:
        box = {"boxstyle": "round,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}
        axes.text(
            middle, height, label, ha="center", va="center", fontsize=8, color=color, bbox=box
        )


def _order(edges: Sequence[Edge]) -> list[str]:
    """The nodes, each after all that it reads; where that leaves a choice, in the edges' order."""
    left = list(dict.fromkeys(node for edge in edges for node in edge[:2]))
    order: list[str] = []
    while left:
        waiting = {target for source, target, _ in edges if source in left}
        node = next((node for node in left if node not in waiting), None)
        if node is None:
            raise ValueError(f"the graph has a cycle through {', '.join(left)}.")
        order.append(node)
        left.remove(node)
    return order


def _places(edges: Sequence[Edge]) -> dict[str, float]:
    """Where each node is, in inches."""
    step = STEP + CHARACTER * max(len(label) for _, _, label in edges)
    return {node: step * number for number, node in enumerate(_order(edges))}


def _heights(edges: Sequence[Edge], place: Mapping[str, float]) -> list[float]:
    """How high each arc is: the wider the higher, so that none hides another; negative: below."""
    number = {node: position for position, node in enumerate(place)}
    heights: list[float] = []
    for position, (source, target, label) in enumerate(edges):
        again = sum((source, target) == edge[:2] for edge in edges[:position])
        height = BASE + RISE * (number[target] - number[source]) + REPEAT * again
        heights.append(height if label else -0.6 * height)
    return heights


def _reach(edges: Sequence[Edge], labelled: bool) -> float:
    """How far the arcs with or without labels reach from the row of nodes."""
    heights = _heights(edges, _places(edges))
    return max((abs(height) for height in heights if (height > 0) == labelled), default=0.0)


def _size(edges: Sequence[Edge]) -> tuple[float, float]:
    """Width and height of a graph's picture."""
    width = max(_places(edges).values()) + 2 * MARGIN + 0.5
    return width, _reach(edges, True) + _reach(edges, False) + 2.5 * MARGIN
