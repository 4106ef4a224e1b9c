"""The structure: who imports whom, how little lies beside the packages, and that the names and
files of the documents are there."""

import importlib
import re
from pathlib import Path

import import_map
import pytest

import bdp_ext

ROOT = import_map.ROOT
FLOORS = (
    {"errors", "ops"},
    {"data"},
    {"runs"},
    {"pruning", "spaces"},
    {"methods", "retrain", "dropin"},
    {"search", "integrations"},
    {"report"},
    {"reproduce"},
    {"cli"},
)
"""From the ground up."""
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_imports_run_one_way():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    graph = import_map.imports()
    assert set(graph) == set(floor)
    for room, others in graph.items():
        for other in others:
            assert floor[other] < floor[room], f"{room} imports {other}"


def test_few_modules_lie_beside_the_packages():
    assert len(list(import_map.PACKAGE.glob("*.py"))) <= 6


def test_the_picture_is_that_of_the_imports():
    assert import_map.picture(import_map.imports()) in import_map.PAGE.read_text()


def test_a_circle_is_seen():
    with pytest.raises(ValueError, match="b imports itself"):
        import_map.picture({"a": {"b"}, "b": {"a"}})


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_documented_names_are_there(page):
    text = page.read_text()
    for module, names in re.findall(r"^from (bdp_ext[\w.]*) import ([\w, ]+)$", text, re.M):
        for name in names.split(","):
            here = importlib.import_module(module)
            assert hasattr(here, name.strip()), f"{page.name}: {module}.{name}"
    for dotted in re.findall(r"`(bdp_ext(?:\.\w+)+)", text):
        found = bdp_ext
        path = dotted.split(".")[1:]
        for number, name in enumerate(path, 1):
            if not hasattr(found, name):
                importlib.import_module(".".join(["bdp_ext", *path[:number]]))
            found = getattr(found, name)


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.stem)
def test_documented_files_are_there(page):
    """Paths in backquotes that begin with a folder of this repository, and links."""
    text = page.read_text()
    folders = "bdp_ext|csrc|kernels|bench|tests|tools|docs"
    for path in re.findall(rf"`((?:{folders})/[\w./*-]+)`", text):
        assert list(ROOT.glob(path)), f"{page.name}: {path}"
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", prose):
        assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_files_of_an_operation_have_its_name():
    built = ROOT / "csrc"
    for op in ("el2n", "update_voe_", "voe", "capped_topk"):
        for path in (
            *(built / f"cpu/{op}.cpp", built / f"cuda/{op}.cu", ROOT / f"kernels/{op}.py"),
            *(ROOT / f"tests/ops/test_{op}.py", ROOT / f"bench/bench_{op}.py"),
        ):
            assert Path(path).is_file(), path
