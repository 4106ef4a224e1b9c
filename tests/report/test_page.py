"""The page: what is on it and in the files, and how it looks in a real browser."""

import io
import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from bdp_ext import cli
from bdp_ext.errors import UserError
from bdp_ext.pruning import LEVELS
from bdp_ext.report import read_runs, write_report
from bdp_ext.report.page import _epochs
from bdp_ext.report.style import INK, PAPER
from bdp_ext.search.pruning_history import FIELDS, PruningRecord, write
from bdp_ext.spaces.nas_bench_201_results import Benchmark

from .conftest import RUNS, records, set_in
from .parsed import Parsed

OVER_EPOCHS = ["sizes", "balance", "cost", "accuracy"]


@pytest.fixture(scope="module")
def page(folders, table, tmp_path_factory) -> Path:
    """All runs in one."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(list(folders.values()), out, nb201=table)
    return out


def expected_figures() -> set[str]:
    found = {*OVER_EPOCHS, "eigenvalue", "nb201-cifar10", "nb201-cifar100", "nb201-in16"}
    for number, (name, settings) in enumerate(RUNS.items(), 1):
        kinds = ["normal", "reduce"] if "space" in settings else ["cell"]
        parts = ["cell", *(f"alpha-{kind}" for kind in kinds)]
        if settings.get("bdp", True):
            parts += [f"{what}-{level}" for level in LEVELS for what in ("voe", "images")]
        found |= {f"{number}-{name}-{part}" for part in parts}
    return found


def test_page_has_every_section_and_every_figure(page):
    parsed = Parsed(page)
    sections = [own["id"] for tag, own in parsed.tags if tag == "section"]
    assert sections == ["numbers", "epochs", *(f"run-{n}" for n in range(len(RUNS)))]
    assert set(parsed.figures) == expected_figures()
    assert len([tag for tag, _ in parsed.tags if tag == "figcaption"]) == len(parsed.figures)
    assert page.stat().st_size < 3e6
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    links = {value[1:] for value in parsed.values("href") if value.startswith("#")}
    assert links
    assert links <= set(ids)


def test_page_needs_nothing_but_itself(page):
    parsed = Parsed(page)
    assert not {"script", "link", "iframe"} & {
        tag for tag, own in parsed.tags if own.get("rel") != "icon"
    }
    for value in parsed.values("src", "href", "xlink:href", "srcset", "action"):
        assert value.startswith(("#", "data:")), value
    assert "http://" not in parsed.content
    assert "https://" not in parsed.content
    assert "@import" not in parsed.content


def test_numbers_are_those_of_the_results(page, folders):
    parsed = Parsed(page)
    results = [json.loads((path / "result.json").read_text()) for path in folders.values()]
    saved = [f"{result['cost_saved']:.1%}" for result in results]
    assert parsed.row("cost saved") == saved
    assert saved[2] == "0.0%"
    assert float(saved[0].rstrip("%")) > 20
    forwarded = [f"{sum(result['samples'].values()):,}" for result in results]
    assert parsed.row("samples forwarded") == forwarded
    unpruned = [f"{sum(result['samples_unpruned'].values()):,}" for result in results]
    assert parsed.row("without pruning") == unpruned
    assert parsed.row("wall clock")[0] == f"{results[0]['seconds']['wall']:,.1f} s"
    assert parsed.row("epochs") == ["6 of 6"] * 4 + ["12 of 12"]
    for result in results:
        assert result["architecture"] in parsed.texts


def test_cells_are_looked_up(page, folders, table):
    parsed = Parsed(page)
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    own = records(folders["seed0"])[-1]["architecture"]
    accuracy = next(float(row[2]) for row in rows if row[1] == own)
    place = 1 + sum(float(row[2]) > accuracy for row in rows)
    assert parsed.row("CIFAR-10 test")[0] == f"{accuracy:.2f}, place {place}"
    assert parsed.row("CIFAR-10 test")[3] == "not in the file"
    assert f"Per cent in NAS-Bench-201, and place of {len(rows)}" in parsed.texts


def test_other_images_are_not_shown(folders, tmp_path):
    shutil.copytree(folders["seed0"], tmp_path / "a")
    set_in(tmp_path / "a", seed=5)
    write_report([tmp_path / "a"], tmp_path / "a.html")
    parsed = Parsed(tmp_path / "a.html")
    assert any("are not those that this search saw" in text for text in parsed.texts)
    assert not [name for name in parsed.figures if "images" in name]


def test_names_are_shown_as_they_are(folders, tmp_path):
    names = ["<b>&", "$x_1$", "_hidden", "\u4f8b", "&lt;", "a'\"b"]
    for name in names:
        shutil.copytree(folders["whole"], tmp_path / name)
    out = tmp_path / "report.html"
    write_report([tmp_path / name for name in names], out)
    parsed = Parsed(out)
    assert "<b>" not in parsed.content
    for name in names:
        assert parsed.texts.count(name) == 4  # header, table, cells, section
        for figure in OVER_EPOCHS:
            texts = ["".join(text.itertext()) for text in parsed.drawn(figure, "text")]
            assert texts.count(name) == 1
    assert "1-b-cell" in parsed.figures


def test_unfinished_run_is_shown_as_far_as_it_got(folders, tmp_path):
    folder = tmp_path / "stopped"
    shutil.copytree(folders["seed0"], folder)
    (folder / "result.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:40])  # killed in a write
    out = tmp_path / "report.html"
    write_report([folder], out)
    parsed = Parsed(out)
    for row, value in (("epochs", "3 of 6"), ("wall clock", "not finished")):
        assert parsed.texts[parsed.texts.index(row) + 1] == value
    assert json.loads(lines[2])["architecture"] in parsed.texts
    assert {*OVER_EPOCHS, "1-stopped-cell"} <= set(parsed.figures)
    (found,) = read_runs([folder])
    (folder / "pruned.npz").unlink()
    write_report([folder], out)
    parsed = Parsed(out)
    assert "This run has no record of what was pruned (pruned.npz)." in parsed.texts
    assert not [name for name in parsed.figures if "voe" in name]

    (folder / "metrics.jsonl").write_text(lines[0])  # before the first pruning
    none = {
        level: PruningRecord(**{name: getattr(pruned, name)[:0] for name in FIELDS})
        for level, pruned in found.pruning_records.items()
    }
    write(folder / "pruned.npz", none)
    write_report([folder], out)
    assert "Nothing has been pruned yet." in Parsed(out).texts


def test_sentences_where_a_figure_cannot_be(folders, table, tmp_path):
    write_report([folders["whole"]], tmp_path / "report.html")
    parsed = Parsed(tmp_path / "report.html")
    assert any(text.startswith("No eigenvalue") for text in parsed.texts)
    assert any("bdp report --nb201 FILE" in text for text in parsed.texts)
    assert "Nothing is pruned in this search (--no-bdp)." in parsed.texts
    darts = read_runs([folders["darts"]])
    assert (
        "None of the cells is in the file of NAS-Bench-201."
        in _epochs(darts, Benchmark(table)).notes
    )


def test_figures_are_files_too_and_the_same_each_time(folders, tmp_path):
    for place in ("a", "b"):
        write_report(
            [folders["seed0"]], tmp_path / f"{place}.html", figures=tmp_path / f"{place}/figures"
        )
    figures = set(Parsed(tmp_path / "a.html").figures)
    files = sorted((tmp_path / "a/figures").iterdir())
    assert {file.stem for file in files} == figures
    assert len(files) == 2 * len(figures)
    for file in files:
        assert file.read_bytes() == (tmp_path / "b/figures" / file.name).read_bytes()
        if file.suffix == ".png":
            with Image.open(file) as image:
                assert image.width >= 800
                assert len(image.getcolors(1 << 20)) > 5
        else:
            ElementTree.parse(file)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_command(folders, table, tmp_path):
    def report(*arguments: object):
        return CliRunner().invoke(cli.bdp, ["report", *map(str, arguments)])

    out = tmp_path / "a.html"
    done = report(folders["whole"], "--out", out, "--figures", tmp_path / "f", "--nb201", table)
    assert (done.exit_code, done.output) == (0, "")
    assert out.exists()
    assert (tmp_path / "f/sizes.png").exists()
    assert report().exit_code == 2  # no run
    for arguments, message in (
        (["--out", tmp_path / "nowhere/a.html"], "cannot be written: No such file"),
        (["--nb201", tmp_path / "none.csv"], "no such file"),
        (["--out", out, "--figures", out / "f"], "--figures .* cannot be made: Not a directory"),
    ):
        error = report(folders["whole"], *arguments).exception
        assert isinstance(error, UserError)
        with pytest.raises(UserError, match=message):
            raise error


BROWSERS = ("chromium-headless-shell", "chromium", "google-chrome")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed (tools/system_packages)")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=found)
        yield started
        started.close()


# Each image's box, and whether it may be wider than the screen.
LOOK = """() => [...document.querySelectorAll('figure')].map(figure => {
  const image = figure.querySelector('img'), box = image.getBoundingClientRect();
  return {id: figure.id, width: box.width, height: box.height, left: box.left, right: box.right,
          scrolls: !!figure.querySelector('.scroll'), decoded: image.naturalWidth > 0};
})"""


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


LIGHT = {"color": rgb(INK), "backgroundColor": rgb(PAPER)}
DARK = {"color": rgb("#e6e8eb"), "backgroundColor": rgb("#14171b")}
FONT_SIZE = re.compile(r"font(?:-size)?: (?:\w+ )*([\d.]+)px")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser, page, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    context.set_offline(True)
    tab = context.new_page()
    said, asked = [], []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("requestfailed", lambda request: said.append(request.url))
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(page.as_uri())
    figures = tab.evaluate(LOOK)
    look = "getComputedStyle(document.body)"
    colours = {name: tab.evaluate(f"{look}.{name}") for name in ("color", "backgroundColor")}
    scrolls = tab.evaluate("document.documentElement.scrollWidth")
    pictures = {
        name: tab.locator(f"[id='{name}'] img").screenshot()
        for name in ("sizes", "1-seed0-alpha-cell", "1-seed0-voe-train", "1-seed0-images-train")
    }
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert {figure["id"] for figure in figures} == expected_figures()
    assert colours == (DARK if scheme == "dark" else LIGHT)
    assert scrolls == width  # nothing but what scrolls by itself is wider than the screen
    parsed = Parsed(page)
    for figure in figures:
        assert figure["decoded"], figure
        assert figure["width"] > 250, figure
        assert figure["height"] > 100, figure
        if not figure["scrolls"]:
            assert 0 <= figure["left"] < figure["right"] <= width, figure
        name = figure["id"]
        scale = figure["width"] / float(parsed.figures[name].get("viewBox").split()[2])
        looks = [e.get("style", "") for e in parsed.drawn(name, "text", "tspan")]
        sizes = [size for look in looks for size in FONT_SIZE.findall(look)]
        assert min(map(float, sizes)) * scale > 6, figure
        images = parsed.drawn(name, "image")
        sides = [float(image.get(side)) for image in images for side in ("width", "height")]
        assert min(sides, default=9) * scale > 4, figure
        assert len(parsed.drawn(name, "path", "use", "image")) > 5, figure
    for name, picture in pictures.items():
        with Image.open(io.BytesIO(picture)) as image:
            shades = image.convert("RGB").getcolors(1 << 20)
        assert min(max(shades)[1]) > 200 or "images" in name, name  # light paper below dark ink
        drawn = sum(number for number, shade in shades if min(shade) < 150)
        assert drawn > 0.005 * sum(number for number, _ in shades), name


def test_on_paper(browser, page):
    tab = browser.new_page(color_scheme="dark")
    tab.goto(page.as_uri())
    printed = tab.pdf(format="A4")
    tab.emulate_media(media="print", color_scheme="dark")
    ink = tab.evaluate("getComputedStyle(document.body).color")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    dimmed = tab.evaluate("getComputedStyle(document.querySelector('img')).filter")
    tab.close()
    assert printed.startswith(b"%PDF")
    assert (ink, background, dimmed) == (rgb(INK), rgb(PAPER), "none")
