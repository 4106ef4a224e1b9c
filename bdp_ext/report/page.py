"""The page: what is in it, in what order, and in what words."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

import bdp_ext
from bdp_ext.draw import picture
from bdp_ext.errors import UserError
from bdp_ext.query import COLUMNS, Benchmark, Cell
from bdp_ext.report import curves, maps, style
from bdp_ext.report.runs import Run, read_runs
from bdp_ext.report.svg import inline, render
from bdp_ext.report.thumbnails import pruned_images
from bdp_ext.runs.files import write_atomically
from bdp_ext.spaces import find_space
from bdp_ext.spaces.nas_bench_201 import NasBench201Space

DATA_SETS = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "in16": "ImageNet16-120"}
"""What NAS-Bench-201's columns are called."""
UNKNOWN = "not in the file"
PARTS = {"train": "training", "valid": "validation"}

Table = list[tuple[str, list[str]]]
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


@dataclass(frozen=True)
class Section:
    """A heading with plots, and sentences where a plot cannot be."""

    id: str
    title: str
    plots: list[Plot]
    notes: list[str]
    number: int | None = None  # of the run that it is about


def write_report(
    folders: Sequence[Path], out: Path, nb201: Path | None = None, figures: Path | None = None
) -> None:
    """Write a page about searches, finished or not.

    Args:
        folders: of the searches, at least one.
        out: the HTML file; nothing else is needed to read it.
        nb201: a file of NAS-Bench-201 to look cells up in.
        figures: a folder for the plots as .svg and .png.

    Raises:
        UserError: a folder that is no search's, a damaged file, a place that cannot be written.
    """
    runs = read_runs(folders)
    benchmark = Benchmark(nb201) if nb201 else None
    cells = {run.name: _look_up(run, benchmark) for run in runs} if benchmark else {}
    with style.applied():
        sections = [_epochs(runs, benchmark, cells), *_each(runs)]
        if figures:
            _write_figures(figures, [plot for section in sections for plot in section.plots])
        page = _template().render(
            title=f"Search report: {', '.join(run.name for run in runs)}",
            version=bdp_ext.__version__,
            runs=[(run.name, style.variable(style.colour(n))) for n, run in enumerate(runs)],
            tables=[("Summary", _summary(runs)), *_found(runs, cells)],
            cells=[(run.name, run.architecture) for run in runs],
            sections=sections,
            svg=lambda plot: Markup(inline(plot.figure, plot.name, plot.alt or plot.caption)),
            colours=Markup(style.css()),
        )
    _write(out, page.encode())


def _epochs(
    runs: Sequence[Run], benchmark: Benchmark | None, cells: dict[str, list[Cell | None]]
) -> Section:
    """All runs over the epochs."""
    plots = [
        Plot(
            "sizes",
            "Samples of the training and the validation level in each epoch.",
            curves.sizes(runs),
        ),
        Plot(
            "balance",
            "Class balance b of the live samples (Eq. 5); 1: all classes are of one size.",
            curves.balance(runs),
        ),
        Plot("cost", "Samples forwarded so far, both levels together.", curves.cost(runs)),
        Plot(
            "accuracy",
            "Accuracy of the supernet on the live samples of each level, as it is updated with "
            "them. Once a level is pruned, its easiest or hardest samples are missing.",
            curves.accuracy(runs),
        ),
    ]
    notes = []
    if any("eigenvalue" in record for run in runs for record in run.records):
        caption = "Dominant eigenvalue of the Hessian of the validation loss with respect to alpha."
        plots.append(Plot("eigenvalue", caption, curves.eigenvalue(runs)))
    else:
        notes.append("No eigenvalue of the Hessian was computed: bdp search --eigenvalue-every 1.")
    known = {name: found for name, found in cells.items() if any(found)}
    if benchmark and known:
        for data, title in DATA_SETS.items():
            column = f"{data}_test"
            accuracies = {
                name: np.array([cell.accuracy[column] if cell else np.nan for cell in found])
                for name, found in known.items()
            }
            plots.append(
                Plot(
                    f"nb201-{data}",
                    f"{title} test accuracy, by NAS-Bench-201, of the cell after each epoch.",
                    curves.benchmark(runs, accuracies, benchmark.best(column)),
                )
            )
    elif benchmark:
        notes.append("None of the cells is in the file of NAS-Bench-201.")
    elif any(_in_benchmark(run) for run in runs):
        notes.append("The accuracy of NAS-Bench-201's cells is here with bdp report --nb201 FILE.")
    return Section("epochs", "Over the epochs", plots, notes)


def _each(runs: Sequence[Run]) -> list[Section]:
    """Each run by itself."""
    return [
        Section(f"run-{number}", run.name, *_about(run, number), number)
        for number, run in enumerate(runs)
    ]


def _about(run: Run, number: int) -> tuple[list[Plot], list[str]]:
    prefix = f"{number + 1}-{_file_name(run.name)}"
    plots, notes = [], []
    for kind, values in run.alphas().items():
        caption = f"Softmax of alpha ({kind}) over the epochs, a map for each candidate."
        plots.append(Plot(f"{prefix}-alpha-{_file_name(kind)}", caption, maps.alpha(values)))
    space = find_space(run.config.space)
    if hasattr(space, "graph"):
        figure = picture(space.graph(run.architecture))
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
        notes.append(f"The space {run.config.space} draws no cells.")

    if run.config.pruner_class is None:
        return plots, [*notes, "Nothing is pruned in this search (--no-bdp)."]
    if run.lost is None:
        return plots, [*notes, "This run has no record of what was pruned (pruned.npz)."]
    if not any(len(lost.epochs) for lost in run.lost.values()):
        return plots, [*notes, "Nothing has been pruned yet."]
    for level, lost in run.lost.items():
        if run.config.pruner == "bdp" and lost.histograms.any():  # others score by no VoE
            caption = (
                f"VoE of the {PARTS[level]} level's live samples before each pruning, and what "
                "was taken of it. Each row has its own height."
            )
            plots.append(
                Plot(f"{prefix}-voe-{level}", caption, maps.voe(lost, style.colour(number)))
            )
    for level, lost in run.lost.items():
        if not len(lost.samples):
            notes.append(f"Nothing has been pruned from the {PARTS[level]} level.")
            continue
        try:
            rows = pruned_images(run.config, lost)
        except UserError as error:
            notes.append(f"The pruned images cannot be shown: {error}")
            break
        caption = f"Images pruned first and last from the {PARTS[level]} level."
        plots.append(Plot(f"{prefix}-images-{level}", caption, maps.images(rows)))
    return plots, notes


def _summary(runs: Sequence[Run]) -> Table:
    rows: list[dict[str, str]] = []
    for run in runs:
        config, seconds = run.config, run.result["seconds"] if run.result else None
        forwarded, unpruned = run.forwarded()[-1], run.unpruned()[-1]
        last = run.records[-1]
        # The result knows of samples that a pruner forwarded for itself.
        saved = run.result["cost_saved"] if run.result else 1 - forwarded / unpruned
        row = {
            "space": config.space,
            "method": config.method,
            "data": Path(config.data).name,
            "pruning": _pruning(run),
            "seed": str(config.seed),
            "epochs": f"{len(run.records)} of {config.all_epochs}",
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


def _pruning(run: Run) -> str:
    config = run.config
    if config.pruner_class is None:
        return "none"
    who = "" if config.pruner == "bdp" else f"{config.pruner}: "
    return f"{who}{config.criterion}, every {config.interval} epochs"


def _found(runs: Sequence[Run], cells: dict[str, list[Cell | None]]) -> list[tuple[str, Table]]:
    """The last cells' places in NAS-Bench-201."""
    if not any(any(found) for found in cells.values()):
        return []
    last = [cells[run.name][-1] if cells[run.name] else None for run in runs]
    table: Table = []
    for column in COLUMNS:
        data, _, split = column.rpartition("_")
        values = [
            f"{cell.accuracy[column]:.2f}, place {cell.rank[column]:,}" if cell else UNKNOWN
            for cell in last
        ]
        table.append((f"{DATA_SETS[data]} {split}", values))
    table.append(("million FLOPs", [f"{cell.flops:.2f}" if cell else UNKNOWN for cell in last]))
    table.append(
        ("million parameters", [f"{cell.params:.3f}" if cell else UNKNOWN for cell in last])
    )
    of = next(cell.of for found in cells.values() for cell in found if cell)
    return [(f"Per cent in NAS-Bench-201, and place of {of:,}", table)]


def _in_benchmark(run: Run) -> bool:
    return run.config.space == NasBench201Space.name


def _look_up(run: Run, benchmark: Benchmark) -> list[Cell | None]:
    """Of each epoch's cell its results; None where the file does not have it."""
    if not _in_benchmark(run):
        return []
    cells = [record["architecture"] for record in run.records]
    found = {cell: benchmark.cell(cell) for cell in set(cells) & set(benchmark.rows)}
    return [found.get(cell) for cell in cells]


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
            _write(folder / f"{plot.name}.{kind}", render(plot.figure, kind), "--figures")


def _write(path: Path, content: bytes, option: str = "--out") -> None:
    try:
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror}.") from error
