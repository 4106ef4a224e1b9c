"""The report: what is on the page and in the files, from real small runs; what is refused; how it
looks in a real browser."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from test_run import Silent

from bdp_ext import cli, pruning_history
from bdp_ext.config import SearchConfig
from bdp_ext.data import load
from bdp_ext.draw import INK, PAPER
from bdp_ext.errors import UserError
from bdp_ext.pruning import LEVELS
from bdp_ext.pruning.history import histogram
from bdp_ext.query import COLUMNS
from bdp_ext.report import maps, read_runs, style, write_report
from bdp_ext.report.svg import inline
from bdp_ext.report.thumbnails import pruned_images
from bdp_ext.retrain_config import RetrainConfig
from bdp_ext.run import run
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.published import PUBLISHED

SMALL = {
    "epochs": 6,
    "interval": 2,
    "channels": 2,
    "cells": 1,
    "limit_train": 200,
    "keep_train": 0.4,
    "keep_valid": 0.4,
    "threads": 1,
}
DARTS = {**SMALL, "space": "darts", "cells": 3, "limit_train": 120}
RUNS = {
    "seed0": {**SMALL, "eigenvalue_every": 2},
    "seed1": {**SMALL, "seed": 1, "criterion": "random"},
    "whole": {**SMALL, "bdp": False},
    "darts": DARTS,
    "p-darts": {
        **DARTS,
        "method": "p-darts",
        "epochs": 4,
        "alpha_start": 1,
        "channels": 1,
        "limit_train": 40,
        "batch_size": 20,
    },
}
OVER_EPOCHS = ["sizes", "balance", "cost", "accuracy"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("runs")
    for name, settings in RUNS.items():
        run(SearchConfig.of(**settings), parent / name, resume=False, observer=Silent())
    return {name: parent / name for name in RUNS}


@pytest.fixture(scope="module")
def table(folders) -> Path:
    """A table of NAS-Bench-201's form with the cells of the first run and one that is better."""
    cells = {row["architecture"] for row in records(folders["seed0"])}
    best = "|" + "|+|".join(["nor_conv_3x3~0", "nor_conv_3x3~0|nor_conv_3x3~1"])
    best += "|+|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|"
    lines = [",".join(("index", "arch_str", *COLUMNS, "flops", "params"))]
    for number, cell in enumerate([*sorted(cells - {best}), best]):
        lines.append(",".join([str(number), cell, *[str(50 + number / 8)] * 6, "12.5", "0.25"]))
    file = folders["seed0"].parent / "table.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def page(folders, table, tmp_path_factory) -> Path:
    """All runs in one."""
    out = tmp_path_factory.mktemp("page") / "report.html"
    write_report(list(folders.values()), out, nb201=table)
    return out


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class Parsed(HTMLParser):
    """Tags with their attributes, texts, and of each figure how many drawings it has."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.figures: dict[str, int] = {}
        self.content = file.read_text()
        self.feed(self.content)

    def handle_starttag(self, tag, attributes):
        own = dict(attributes)
        self.tags.append((tag, own))
        if tag == "figure":
            self.figures[own["id"]] = 0
        if tag == "svg":
            self.figures[list(self.figures)[-1]] += 1
            assert own["aria-label"]

    def handle_data(self, data):
        if data.strip():
            self.texts.append(data.strip())

    def values(self, *names: str) -> list[str]:
        return [own[name] for _, own in self.tags for name in names if name in own]

    def row(self, title: str) -> list[str]:
        start = self.texts.index(title) + 1
        return self.texts[start : start + len(RUNS)]


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
    assert set(parsed.figures.values()) == {1}
    assert len([tag for tag, _ in parsed.tags if tag == "figcaption"]) == len(parsed.figures)
    assert page.stat().st_size < 3e6


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


def test_names_within_the_page_are_unique_and_there(page):
    parsed = Parsed(page)
    ids = parsed.values("id")
    assert len(ids) == len(set(ids))
    links = {value[1:] for value in parsed.values("href", "xlink:href") if value.startswith("#")}
    links |= {
        part.split(")")[0]
        for value in parsed.values("clip-path", "style", "fill")
        for part in value.split("url(#")[1:]
    }
    assert links
    assert links <= set(ids)


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


def test_figures_show_what_was_recorded(folders):
    for name, found in zip(RUNS, read_runs(list(folders.values())), strict=True):
        alphas = found.alphas().values()
        for epoch, record in enumerate(records(folders[name])):
            for number, values in enumerate(alphas):
                softmax = torch.tensor(record["alpha"][number]).softmax(1)
                shown = values.weights[:, :, epoch]
                assert np.nansum(shown, 0) == pytest.approx(1)
                assert np.sort(shown[~np.isnan(shown)]) == pytest.approx(
                    softmax.double().flatten().sort().values.numpy(), abs=1e-6
                )
                if name != "p-darts":
                    assert np.allclose(shown.T, softmax, atol=1e-6)
        if found.lost is None:
            assert name == "whole"
            continue
        lost = found.lost["train"]
        figure = maps.voe(lost, style.colour(0))
        stairs = [patch.get_data() for patch in figure.axes[0].patches]
        assert len(stairs) == 2 * len(lost.epochs)
        for pruning, (live, taken) in enumerate(zip(stairs[::2], stairs[1::2], strict=True)):
            scale = 0.85 / lost.histograms[pruning].max()
            counts = [(shape.values - shape.baseline) / scale for shape in (live, taken)]
            assert counts[0] == pytest.approx(lost.histograms[pruning], abs=1e-6)
            assert counts[1].sum() == pytest.approx(lost.taken[pruning])
            assert (counts[1] <= counts[0] + 1e-6).all()
            assert histogram(torch.from_numpy(lost.voe[lost.at(pruning)])).sum() == sum(counts[1])


@pytest.mark.parametrize(
    ("space", "settings"),
    [
        ("nas-bench-201", {"cells": 1}),
        ("nas-bench-201", {"cells": 1, "part": 4}),
        ("darts", {"cells": 3}),
        ("darts", {"cells": 3, "part": 4}),
        ("mobilenet", {"cells": 3}),
        ("mobilenet", {"cells": 1}),
    ],
)
def test_names_fit_the_alphas_and_the_cell_they_stand_for(space, settings):
    found = SPACES[space]
    alphas = found.supernet(channels=8, classes=2, **settings).alphas()
    tables = [alpha.detach().normal_() for alpha in alphas if alpha.dim() == 2]
    names = found.names(alphas)
    shapes = [[len(row) for row in rows.values()] for rows in names.values()]
    assert shapes == [[table.shape[1]] * len(table) for table in tables]
    best = {
        edge: candidates[int(row.argmax())]
        for rows, table in zip(names.values(), tables, strict=True)
        for (edge, candidates), row in zip(rows.items(), table, strict=True)
    }
    cell = found.derive(alphas)["architecture"]
    graph = found.graph(cell)
    if space == "nas-bench-201":
        assert best == {f"{source}→{node}": name for source, node, name in graph["cell"]}
    elif space == "mobilenet":
        in_order = [best[layer] for layer in sorted(best)]
        assert in_order == [name for _, _, name in graph["layers"]]
    else:
        assert list(names) == list(graph)
        for kind, table in zip(names, tables, strict=True):
            table[:, 0] = -99  # `none` is never kept, and only the strongest is
            row = {
                edge: names[kind][edge][int(alpha.argmax())]
                for edge, alpha in zip(names[kind], table, strict=True)
            }
            for source, node, name in graph[kind]:
                if name:
                    assert row[f"{source.strip('c_{}')}→{node}"] == name


def test_p_darts_edges_keep_the_names_of_what_is_left(folders):
    (found,) = read_runs([folders["p-darts"]])
    for values in found.alphas().values():
        left = (~np.isnan(values.weights)).sum(0)  # [edges, epochs]
        assert left.tolist() == [[8] * 4 + [5] * 4 + [3] * 4] * 14
        end = values.weights[:, :, 3]  # the weakest three of the first stage are gone
        assert np.isnan(values.weights[:, :, 4])[np.argsort(end, 0)[:3], np.arange(14)].all()


def test_pruned_images_are_read_back_from_the_data(folders):
    (found,) = read_runs([folders["seed0"]])
    data = load("digits", limit=200)
    for lost in found.lost.values():
        first, last = pruned_images(found.config, lost)
        head, tail = lost.samples[lost.at(0)][:16], lost.samples[lost.at(-1)][-16:]
        assert torch.equal(first.images, data.images[head])
        assert torch.equal(last.images, data.images[tail])
        assert last.names == [str(label) for label in data.labels[tail].tolist()]
        assert first.title.startswith(f"first, after epoch {lost.epochs[0]}: VoE ")


def test_large_images_of_a_folder_become_small(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 30, 96, 128, 3), np.uint8)
    for label, images in zip(("a$b$", "b"), pixels, strict=True):
        (tmp_path / "data/train" / label).mkdir(parents=True)
        for number, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / f"data/train/{label}/{number:02}.png")
    settings = {**SMALL, "data": str(tmp_path / "data"), "image_size": 72, "limit_train": 50}
    config = SearchConfig.of(**{**settings, "epochs": 3})
    run(config, tmp_path / "run", resume=False, observer=Silent())
    (found,) = read_runs([tmp_path / "run"])
    rows = pruned_images(config, found.lost["valid"])
    assert all(row.images.shape[1:] == (3, 64, 64) for row in rows)
    with style.applied():
        assert "a$b$" in inline(maps.images(rows), "x", "images")  # no formula
    write_report([tmp_path / "run"], tmp_path / "there.html")
    assert "1-run-images-valid" in Parsed(tmp_path / "there.html").figures
    shutil.rmtree(tmp_path / "data")
    write_report([tmp_path / "run"], tmp_path / "gone.html")
    parsed = Parsed(tmp_path / "gone.html")
    assert "1-run-images-valid" not in parsed.figures
    assert "1-run-voe-valid" in parsed.figures
    note = next(text for text in parsed.texts if text.startswith("The pruned images cannot"))
    assert "data does not exist" in note


def changed(source: Path, target: Path, **settings) -> Path:
    """A copy of a run whose settings say something else."""
    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **settings}))
    return target


def test_other_images_are_not_shown(folders, tmp_path):
    write_report([changed(folders["seed0"], tmp_path / "a", seed=5)], tmp_path / "a.html")
    parsed = Parsed(tmp_path / "a.html")
    assert any("are not those that this search saw" in text for text in parsed.texts)
    assert not [name for name in parsed.figures if "images" in name]


def test_names_are_shown_as_they_are(folders, tmp_path):
    names = ["<b>&", "$x_1$", "_hidden", "\u4f8b", "&lt;", "a'\"b"]
    for name in names:
        shutil.copytree(folders["whole"], tmp_path / name)
    out = tmp_path / "report.html"
    write_report([tmp_path / name for name in names], out, figures=tmp_path / "figures")
    parsed = Parsed(out)
    assert "<b>" not in parsed.content
    root = ElementTree.parse(tmp_path / "figures/sizes.svg").getroot()
    texts = ["".join(text.itertext()) for text in root.iter() if text.tag.endswith("}text")]
    for name in names:
        assert parsed.texts.count(name) == 4 + len(OVER_EPOCHS)  # header, table, cells, section
        assert texts.count(name) == 1
    assert {f"1-b-cell.{kind}" for kind in ("svg", "png")} <= {
        file.name for file in (tmp_path / "figures").iterdir()
    }


def test_runs_of_the_same_name_are_told_apart(folders, tmp_path):
    for parent in ("a", "b"):
        shutil.copytree(folders["whole"], tmp_path / parent / "run")
    found = read_runs([tmp_path / "a/run", tmp_path / "b/run"])
    assert [run.name for run in found] == ["a/run", "b/run"]
    with pytest.raises(UserError, match="is given twice"):
        read_runs([tmp_path / "a/run", tmp_path / "b/../a/run"])


def test_unfinished_run_is_shown_as_far_as_it_got(folders, tmp_path):
    folder = tmp_path / "stopped"
    shutil.copytree(folders["seed0"], folder)
    (folder / "result.json").unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:3]) + lines[3][:40])  # killed in a write
    write_report([folder], tmp_path / "report.html")
    parsed = Parsed(tmp_path / "report.html")
    for row, value in (("epochs", "3 of 6"), ("wall clock", "not finished")):
        assert parsed.texts[parsed.texts.index(row) + 1] == value
    assert json.loads(lines[2])["architecture"] in parsed.texts
    assert {*OVER_EPOCHS, "1-stopped-cell"} <= set(parsed.figures)
    (folder / "pruned.npz").unlink()
    write_report([folder], tmp_path / "report.html")
    parsed = Parsed(tmp_path / "report.html")
    assert "This run has no record of what was pruned (pruned.npz)." in parsed.texts
    assert not [name for name in parsed.figures if "voe" in name]


def test_before_the_first_pruning(folders, tmp_path):
    (found,) = read_runs([folders["seed0"]])
    folder = tmp_path / "early"
    shutil.copytree(folders["seed0"], folder)
    (folder / "result.json").unlink()
    line = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    (folder / "metrics.jsonl").write_text(line)
    none = {
        level: pruning_history.PruningRecord(
            **{name: getattr(lost, name)[:0] for name in pruning_history.FIELDS}
        )
        for level, lost in found.lost.items()
    }
    pruning_history.write(folder / "pruned.npz", none)
    write_report([folder], tmp_path / "report.html")
    assert "Nothing has been pruned yet." in Parsed(tmp_path / "report.html").texts


def test_sentences_where_a_figure_cannot_be(folders, table, tmp_path):
    write_report([folders["darts"], folders["whole"]], tmp_path / "a.html")
    parsed = Parsed(tmp_path / "a.html")
    assert any(text.startswith("No eigenvalue") for text in parsed.texts)
    assert any("bdp report --nb201 FILE" in text for text in parsed.texts)
    assert "Nothing is pruned in this search (--no-bdp)." in parsed.texts
    write_report([folders["darts"]], tmp_path / "b.html", nb201=table)
    assert any(text.startswith("None of the cells") for text in Parsed(tmp_path / "b.html").texts)


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
            assert "var(" not in file.read_text()
            ElementTree.parse(file)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def append(name: str, text: str):
    def damage(folder: Path) -> None:
        with (folder / name).open("a") as file:
            file.write(text)

    return damage


def replace(name: str, text: str):
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is no folder: give the --out of a search"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (replace("config.json", '{"genotype": "x"}'), "holds no settings of a search"),
        (replace("config.json", "{"), "holds no settings of a search"),
        (lambda folder: (folder / "metrics.jsonl").unlink(), "has not finished an epoch yet"),
        (replace("metrics.jsonl", ""), "has not finished an epoch yet"),
        (append("metrics.jsonl", "{half\n"), "line 7 of .*metrics.jsonl is no epoch of a search"),
        (append("metrics.jsonl", "[1, 2]\n"), "line 7 of .*metrics.jsonl is no epoch of a search"),
        (append("metrics.jsonl", '{"epoch": 7}\n'), "line 7 .* \\(no 'train'\\)"),
        (
            lambda folder: append("metrics.jsonl", (folder / "metrics.jsonl").read_text())(folder),
            "line 7 of .* \\(it is epoch 1\\)",
        ),
        (lambda folder: (folder / "metrics.jsonl").write_bytes(b"\xff\n"), "cannot be read"),
        (replace("result.json", "{}"), "result.json is no result of a search"),
        (replace("pruned.npz", "PK"), "pruned.npz is damaged or no record of prunings"),
    ],
)
def test_damaged_runs_are_refused_in_a_sentence(folders, tmp_path, damage, message):
    folder = tmp_path / "run"
    shutil.copytree(folders["seed0"], folder)
    damage(folder)
    with pytest.raises(UserError, match=message):
        write_report([folders["whole"], folder], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


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


def test_retrainings_are_no_searches(tmp_path):
    config = asdict(RetrainConfig(space="darts", genotype=str(PUBLISHED["DARTS_V2"])))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="holds no settings of a search"):
        read_runs([tmp_path])


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


# Each svg's box, whether it may be wider than the screen, and the colour of a text in it.
LOOK = """() => [...document.querySelectorAll('figure')].map(figure => {
  const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect();
  const text = [...svg.querySelectorAll('text')].map(t => t.getBoundingClientRect());
  const image = [...svg.querySelectorAll('image')].map(t => t.getBoundingClientRect());
  return {id: figure.id, width: box.width, height: box.height, left: box.left, right: box.right,
          scrolls: !!figure.querySelector('.scroll'),
          ink: getComputedStyle(svg.querySelector('text')).fill,
          shapes: svg.querySelectorAll('path, use, image').length,
          text: Math.min(...text.map(t => t.height)),
          image: Math.min(9999, ...image.map(t => Math.min(t.width, t.height)))};
})"""


def rgb(colour: str) -> str:
    return "rgb({}, {}, {})".format(*(int(colour[i : i + 2], 16) for i in (1, 3, 5)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(browser, page, width, scheme):
    ink, paper = INK, PAPER
    if scheme == "dark":
        ink, paper = style.DARK[ink], style.DARK[paper]
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
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    scrolls = tab.evaluate("document.documentElement.scrollWidth")
    pictures = {
        name: tab.locator(f"[id='{name}'] svg").screenshot()
        for name in ("sizes", "1-seed0-alpha-cell", "1-seed0-voe-train", "1-seed0-images-train")
    }
    context.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert {figure["id"] for figure in figures} == expected_figures()
    assert background == rgb(paper)
    assert scrolls == width  # nothing but what scrolls by itself is wider than the screen
    for figure in figures:
        assert figure["ink"] == rgb(ink), figure
        assert figure["width"] > 250, figure
        assert figure["height"] > 100, figure
        assert figure["text"] > 6, figure
        assert figure["image"] > 4, figure
        assert figure["shapes"] > 5, figure
        if not figure["scrolls"]:
            assert 0 <= figure["left"] < figure["right"] <= width, figure
    for name, picture in pictures.items():
        file = page.with_name("picture.png")
        file.write_bytes(picture)
        with Image.open(file) as image:
            colours = {colour: n for n, colour in image.convert("RGB").getcolors(1 << 20)}
        shades = {tuple(int(paper[i : i + 2], 16) for i in (1, 3, 5))}
        drawn = sum(n for colour, n in colours.items() if colour not in shades)
        assert drawn > 0.02 * sum(colours.values()), name


def test_on_paper(browser, page):
    tab = browser.new_page(color_scheme="dark")
    tab.goto(page.as_uri())
    printed = tab.pdf(format="A4")
    tab.emulate_media(media="print", color_scheme="dark")
    ink = tab.evaluate("getComputedStyle(document.querySelector('svg text')).fill")
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    tab.close()
    assert printed.startswith(b"%PDF")
    assert (ink, background) == (rgb(INK), rgb(PAPER))
