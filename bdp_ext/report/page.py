"""The page: what is in it, in what order, and in what words."""

import base64
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

import bdp_ext
from bdp_ext.errors import UserError
from bdp_ext.report import curves, maps, style
from bdp_ext.report.cells import picture
from bdp_ext.report.output import rendered, write
from bdp_ext.report.runs import RecordedRun, read_runs
from bdp_ext.report.thumbnails import pruned_images
from bdp_ext.spaces.nas_bench_201_results import COLUMNS, Benchmark

DATA_SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "in16": "ImageNet16-120"}
"""What NAS-Bench-201's columns are called."""
UNKNOWN = "not in the file"
LEVEL_NAMES = {"train": "training", "valid": "validation"}

ALWAYS = {
    curves.sizes: "Samples of the training and the validation level in each epoch.",
    curves.balance: "Class balance b of the live samples (Eq. 5); 1: all classes are of one size.",
    curves.cost: "Samples forwarded so far, both levels together.",
    curves.accuracy: "Accuracy of the supernet on the live samples of each level, as it is updated "
    "with them. Once a level is pruned, its easiest or hardest samples are missing.",
}
"""Plots over the epochs that every page has, and their captions."""

TextTable = list[tuple[str, list[str]]]
"""Rows: what it is, and of each run a value."""


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
        name: unique; of its file.
        caption: a sentence or two.
        figure: the plot.
        wide: wider than a column.
        alt: what it shows, for those who do not see it; the caption where that is enough.
    """

    name: str
    caption: str
    figure: Figure
    wide: bool = False
    alt: str = ""

    @property
    def svg(self) -> str:
        """A data URI."""
        content = base64.b64encode(rendered(self.figure, "svg")).decode()
        return f"data:image/svg+xml;base64,{content}"

    @property
    def width(self) -> float:
        """In points."""
        return 72 * self.figure.get_figwidth()


@dataclass(frozen=True)
class Section:
    """A heading with plots, and sentences where a plot cannot be."""

    id: str
    title: str
    plots: list[Plot]
    notes: list[str]
    number: int | None = None  # of the run that it is about


def write_report(
    folders: Sequence[Path],
    out: Path,
    nb201: Path | None = None,
    figures: Path | None = None,
    *,
    spaces: Collection[str] = (),
    methods: Collection[str] = (),
) -> None:
    """Write a page about searches, finished or not.

    Args:
        folders: of the searches, at least one.
        out: the HTML file; nothing else is needed to read it.
        nb201: a file of NAS-Bench-201 to look cells up in.
        figures: a folder for the plots as .svg and .png.
        spaces, methods: `package.module:Name` of those that may be imported (see `read_run`).

    Raises:
        UserError: what `read_run` refuses, or a place that cannot be written.
    """
    runs = read_runs(folders, spaces, methods)
    benchmark = Benchmark(nb201) if nb201 else None
    with style.applied():
        sections = [_epochs(runs, benchmark), *_each(runs)]
        if figures:
            _write_figures(figures, [plot for section in sections for plot in section.plots])
        page = _template().render(
            title=f"Search report: {', '.join(run.name for run in runs)}",
            version=bdp_ext.__version__,
            runs=[(run.name, style.colour(number)) for number, run in enumerate(runs)],
            tables=[("Summary", _summary(runs)), *_found(runs, benchmark)],
            cells=[(run.name, run.architecture) for run in runs],
            sections=sections,
        )
    write(out, page.encode())


def _epochs(runs: Sequence[RecordedRun], benchmark: Benchmark | None) -> Section:
    """All runs over the epochs."""
    plots = [
        Plot(plot.__name__, caption, curves.over_epochs(runs, plot))
        for plot, caption in ALWAYS.items()
    ]
    notes = []
    if any("eigenvalue" in record for run in runs for record in run.records):
        caption = "Dominant eigenvalue of the Hessian of the validation loss with respect to alpha."
        plots.append(Plot("eigenvalue", caption, curves.over_epochs(runs, curves.eigenvalue)))
    else:
        notes.append("No eigenvalue of the Hessian was computed: bdp search --eigenvalue-every 1.")
    if benchmark and any(_known(run, benchmark) for run in runs):
        for data, title in DATA_SETS.items():
            plot = partial(curves.benchmark, results=benchmark, column=f"{data}_test")
            caption = f"{title} test accuracy, by NAS-Bench-201, of the cell after each epoch."
            plots.append(Plot(f"nb201-{data}", caption, curves.over_epochs(runs, plot)))
    elif benchmark:
        notes.append("None of the cells is in the file of NAS-Bench-201.")
    elif any(run.in_benchmark for run in runs):
        notes.append("The accuracy of NAS-Bench-201's cells is here with bdp report --nb201 FILE.")
    return Section("epochs", "Over the epochs", plots, notes)


def _each(runs: Sequence[RecordedRun]) -> list[Section]:
    """Each run by itself."""
    return [
        Section(f"run-{number}", run.name, *_about(run, number), number)
        for number, run in enumerate(runs)
    ]


def _about(run: RecordedRun, number: int) -> tuple[list[Plot], list[str]]:
    prefix = f"{number + 1}-{_file_name(run.name)}"
    plots, notes = [], []
    for kind, values in run.alphas().items():
        caption = f"Softmax of alpha ({kind}) over the epochs, a map for each candidate."
        plots.append(Plot(f"{prefix}-alpha-{_file_name(kind)}", caption, maps.alpha(values)))
    if hasattr(run.space, "graph"):
        figure = picture(run.space.graph(run.architecture))
        plots.append(
            Plot(
                f"{prefix}-cell",
                f"The cell after epoch {len(run.records)}.",
                figure,
                wide=figure.get_figwidth() > style.WIDTH,
                alt=run.architecture,
            )
        )
    else:
        notes.append(f"The space {run.settings['space']} draws no cells.")

    if not run.pruned:
        return plots, [*notes, "Nothing is pruned in this search (--no-bdp)."]
    if run.pruning_records is None:
        return plots, [*notes, "This run has no record of what was pruned (pruned.npz)."]
    if not any(len(pruned.epochs) for pruned in run.pruning_records.values()):
        return plots, [*notes, "Nothing has been pruned yet."]
    for level, pruned in run.pruning_records.items():
        if run.settings["pruner"] == "bdp" and pruned.histograms.any():  # others score by no VoE
            caption = (
                f"VoE of the {LEVEL_NAMES[level]} level's live samples before each pruning, and "
                "what was taken of it. Each row has its own height."
            )
            plots.append(
                Plot(f"{prefix}-voe-{level}", caption, maps.voe(pruned, style.colour(number)))
            )
    for level, pruned in run.pruning_records.items():
        if not len(pruned.samples):
            notes.append(f"Nothing has been pruned from the {LEVEL_NAMES[level]} level.")
            continue
        try:
            rows = pruned_images(run.settings, pruned)
        except UserError as error:
            notes.append(f"The pruned images cannot be shown: {error}")
            break
        caption = f"Images pruned first and last from the {LEVEL_NAMES[level]} level."
        plots.append(Plot(f"{prefix}-images-{level}", caption, maps.images(rows)))
    return plots, notes


def _summary(runs: Sequence[RecordedRun]) -> TextTable:
    rows: list[dict[str, str]] = []
    for run in runs:
        settings, seconds = run.settings, run.result["seconds"] if run.result else None
        forwarded, unpruned = run.forwarded()[-1], run.unpruned()[-1]
        last = run.records[-1]
        # The result knows of samples that a pruner forwarded for itself.
        saved = run.result["cost_saved"] if run.result else 1 - forwarded / unpruned
        row = {
            "space": settings["space"],
            "method": settings["method"],
            "data": Path(settings["data"]).name,
            "pruning": _pruning(run),
            "seed": str(settings["seed"]),
            "epochs": f"{len(run.records)} of {run.all_epochs}",
            "last epoch's samples": f"{last['train']:,} + {last['valid']:,}",
            "samples forwarded": f"{forwarded:,.0f}",
            "without pruning": f"{unpruned:,.0f}",
            "cost saved": f"{saved:.1%}",
            "wall clock": f"{seconds['wall']:,.1f} s" if seconds else "not finished",
            "CPU": f"{seconds['cpu']:,.1f} s" if seconds else "not finished",
            "of it, scoring and selecting": (
                f"{(seconds['scoring'] + seconds['selecting']) / seconds['cpu']:.2%}"
                if seconds
                else "not finished"
            ),
        }
        rows.append(row)
    return [(key, [row[key] for row in rows]) for key in rows[0]]


def _pruning(run: RecordedRun) -> str:
    settings = run.settings
    if not run.pruned:
        return "none"
    who = "" if settings["pruner"] == "bdp" else f"{settings['pruner']}: "
    return f"{who}{settings['criterion']}, every {settings['interval']} epochs"


def _found(runs: Sequence[RecordedRun], benchmark: Benchmark | None) -> list[tuple[str, TextTable]]:
    """The last cells' places in NAS-Bench-201."""
    if benchmark is None or not any(_known(run, benchmark) for run in runs):
        return []
    splits = [column.rpartition("_") for column in COLUMNS]
    titles = [f"{DATA_SETS[data]} {split}" for data, _, split in splits]
    titles += ["million FLOPs", "million parameters"]
    values = [_results(run, benchmark) or [UNKNOWN] * len(titles) for run in runs]
    table = [(title, [own[row] for own in values]) for row, title in enumerate(titles)]
    return [(f"Per cent in NAS-Bench-201, and place of {len(benchmark.rows):,}", table)]


def _results(run: RecordedRun, benchmark: Benchmark) -> list[str]:
    """Of the last cell; none where the file does not have it."""
    if run.architecture not in benchmark.rows:
        return []
    cell = benchmark.cell(run.architecture)
    places = [f"{cell.accuracy[column]:.2f}, place {cell.rank[column]:,}" for column in COLUMNS]
    return [*places, f"{cell.flops:.2f}", f"{cell.params:.3f}"]


def _known(run: RecordedRun, benchmark: Benchmark) -> bool:
    """Whether a cell of the run is in the file."""
    return not np.isnan(run.accuracy(benchmark, COLUMNS[0])).all()


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text).strip("-.") or "run"


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["css"] = Markup(_resource("page.css"))
    return environment.from_string(_resource("page.html.j2"))


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text()


def _write_figures(folder: Path, plots: Sequence[Plot]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--figures {folder} cannot be made: {error.strerror}.") from error
    for plot in plots:
        for kind in ("svg", "png"):
            write(folder / f"{plot.name}.{kind}", rendered(plot.figure, kind), "--figures")
