"""Drawings: every node and operation is in the picture, and no two arcs lie on each other."""

import xml.etree.ElementTree as ElementTree
from collections import Counter

import pytest
from click.testing import CliRunner
from PIL import Image

from bdp_ext import cli
from bdp_ext.errors import UserError
from bdp_ext.report.cells import _heights, _places, draw
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.published import PUBLISHED

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|none~2|"
GRAPHS = {
    **{name: SPACES["darts"].graph(str(genotype)) for name, genotype in PUBLISHED.items()},
    "cell": SPACES["nas-bench-201"].graph(CELL),
    "chain": SPACES["mobilenet"].graph("+".join(["k3e3|k7e6|skip|k5e3"] * 5 + ["k3e6"])),
    "twice": {"cell": [("a", "b", "one"), ("a", "b", "two"), ("a", "b", "")]},
}


def texts(file) -> Counter:
    root = ElementTree.parse(file).getroot()
    return Counter(
        "".join(element.itertext()).strip()
        for element in root.iter("{http://www.w3.org/2000/svg}text")
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_svg_holds_every_operation_and_plain_node_as_text(tmp_path, name):
    draw(GRAPHS[name], tmp_path / "cell.svg")
    found = texts(tmp_path / "cell.svg")
    expected = Counter(list(GRAPHS[name]))  # the titles
    for edges in GRAPHS[name].values():
        expected.update(label for _, _, label in edges if label)
        expected.update({node for edge in edges for node in edge[:2] if "_" not in node})
    assert expected <= found
    inputs = sum(count for text, count in found.items() if text.startswith("c") and "k" in text)
    assert inputs >= (6 if "normal" in GRAPHS[name] else 0)  # c_{k-2}, c_{k-1}, c_{k}, twice


@pytest.mark.parametrize("name", GRAPHS)
def test_arcs_go_forward_and_apart(name):
    for edges in GRAPHS[name].values():
        place = _places(edges)
        assert all(place[source] < place[target] for source, target, _ in edges)
        middles = [
            ((place[source] + place[target]) / 2, height)
            for (source, target, _), height in zip(edges, _heights(edges, place), strict=True)
        ]
        assert len(set(middles)) == len(edges)
        assert all(
            (height > 0) == bool(label)
            for (_, _, label), (_, height) in zip(edges, middles, strict=True)
        )


def test_png_has_both_cells(tmp_path):
    draw(GRAPHS["DARTS_V2"], tmp_path / "both.png")
    draw({"normal": GRAPHS["DARTS_V2"]["normal"]}, tmp_path / "one.png")
    with Image.open(tmp_path / "both.png") as both, Image.open(tmp_path / "one.png") as one:
        assert both.width == one.width
        assert both.height > 1.8 * one.height
        assert len(both.getcolors(1 << 16)) > 2


def test_what_cannot_be_drawn_or_written(tmp_path):
    with pytest.raises(UserError, match=r"must end in \.svg, \.png, \.pdf"):
        draw(GRAPHS["cell"], tmp_path / "cell.jpg")
    with pytest.raises(UserError, match="cannot be written: No such file"):
        draw(GRAPHS["cell"], tmp_path / "nowhere/cell.svg")
    with pytest.raises(ValueError, match="cycle through a, b"):
        draw({"cell": [("a", "b", "x"), ("b", "a", "y")]}, tmp_path / "cell.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("genotype", "titles"), [("PDARTS", 2), (CELL, 1)])
def test_command(tmp_path, genotype, titles):
    out = tmp_path / "cell.svg"
    result = CliRunner().invoke(cli.bdp, ["draw", "--genotype", genotype, "--out", str(out)])
    assert (result.exit_code, result.output) == (0, "")
    found = texts(out)
    assert sum(found[title] for title in ("normal", "reduce", "cell")) == titles
