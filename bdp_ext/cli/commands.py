"""The command line: `bdp search`, `bdp query`, `bdp retrain`, `bdp draw`, `bdp report`,
`bdp reproduce`, `bdp info`."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

import bdp_ext
from bdp_ext.cli.options import (
    given_options,
    out_option,
    resume_option,
    rows,
    settings_options,
)
from bdp_ext.cli.report import report
from bdp_ext.cli.reproduce import reproduce
from bdp_ext.cli.retrain import draw, retrain
from bdp_ext.errors import Diverged, UserError
from bdp_ext.methods import METHODS
from bdp_ext.runs import Interrupted
from bdp_ext.search import SearchConfig
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.architecture import edges


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bdp_ext.__version__, prog_name="bdp")
def bdp() -> None:
    """Differentiable architecture search on a shrinking set of samples (BDP, arXiv 2312.14200)."""


@bdp.command()
@out_option
@settings_options(
    SearchConfig,
    [(f"space {name}", space.defaults) for name, space in SPACES.items()]
    + [(f"method {name}", method.defaults) for name, method in METHODS.items()]
    + [("other pruners", {"criterion": "low-low"})],
)
@resume_option
@click.pass_context
def search(context: click.Context, /, out: Path, resume: bool, **options: Any) -> None:
    """Search for a cell."""
    from bdp_ext.cli.progress import SearchProgress
    from bdp_ext.search.run import folder, run

    given = given_options(context, options)
    saved = folder(out).saved_config(given.values()) if resume else None
    config = SearchConfig(**{**vars(saved), **given}) if saved else SearchConfig.of(**given)
    console = Console()
    with SearchProgress(console) as progress:
        result = run(config, out, resume=resume, observer=progress)
    _print_result(console, result, out)


def _print_result(console: Console, result: dict[str, Any], out: Path) -> None:
    samples, extra = (sum(result[kind].values()) for kind in ("samples", "samples_extra"))
    unpruned = sum(result["samples_unpruned"].values())
    seconds = result["seconds"]
    overhead = sum(seconds[part] for part in ("scoring", "selecting", "passes")) / seconds["cpu"]
    ours = f", {extra:,} of them for the pruner alone" if extra else ""
    parts = "scoring, selecting and extra passes" if extra else "scoring and selecting"
    shown = {"cell": result["architecture"]}
    if result.get("architecture_without_none", result["architecture"]) != result["architecture"]:
        shown["without none"] = result["architecture_without_none"]
    shown["cost saved"] = (
        f"{result['cost_saved']:.1%} ({samples + extra:,} samples forwarded instead of "
        f"{unpruned:,}{ours})"
    )
    shown["time"] = (
        f"{seconds['wall']:.1f} s wall, {seconds['cpu']:.1f} s CPU, of which {parts} {overhead:.2%}"
    )
    shown["results"] = str(out / "result.json")
    rows(console, shown)


@bdp.command()
@click.option(
    "--run",
    "run_folder",
    type=click.Path(path_type=Path),
    help="Folder of a finished search (its --out).",
)
@click.option("--arch", help="A cell: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|.")
@click.option("--space", help="The space that the cell must be of; also package.module:Name.")
@click.option(
    "--nb201",
    type=click.Path(path_type=Path),
    required=True,
    help="NAS-Bench-201-v1_1-096897.pth, or a table (.csv, .csv.gz).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def query(
    run_folder: Path | None, arch: str | None, space: str | None, nb201: Path, as_json: bool
) -> None:
    """Look a cell up in NAS-Bench-201."""
    from bdp_ext.spaces.nas_bench_201_results import COLUMNS, Benchmark, check_architecture

    if (run_folder is None) == (arch is None):
        raise UserError("give either --run DIR or --arch STRING.")
    cells = {"cell": arch} if arch is not None else _found_cells(run_folder)
    for architecture in cells.values():
        if space is not None:
            edges(architecture, space)
        check_architecture(architecture)
    benchmark = Benchmark(nb201)
    found = {name: benchmark.cell(architecture) for name, architecture in cells.items()}
    if as_json:
        click.echo(json.dumps({name: vars(cell) for name, cell in found.items()}, indent=2))
        return
    console = Console()
    for name, cell in found.items():
        console.print(f"{name}: {cell.architecture}", highlight=False, soft_wrap=True)
        console.print(
            f"number {cell.index}, {cell.flops:.2f} M FLOPs, {cell.params:.3f} M parameters",
            highlight=False,
        )
        table = Table("", "accuracy", f"place of {cell.of:,}")
        for column in COLUMNS:
            table.add_row(column, f"{cell.accuracy[column]:.2f}", f"{cell.rank[column]:,}")
        console.print(table)


def _found_cells(folder: Path | None) -> dict[str, str]:
    assert folder is not None
    file = folder / "result.json"
    try:
        result = json.loads(file.read_text())
        cells = {"cell": result["architecture"]}
        without_none = result.get("architecture_without_none")
    except OSError as error:
        raise UserError(
            f"{file} cannot be read ({error.strerror}): give the --out of a finished search."
        ) from error
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file} is no result of a search.") from error
    if without_none not in (None, cells["cell"]):
        cells["cell without none"] = without_none
    return cells


bdp.add_command(retrain)
bdp.add_command(draw)
bdp.add_command(report)
bdp.add_command(reproduce)


@bdp.command()
def info() -> None:
    """What was built and loaded, and why something was not."""
    click.echo(json.dumps(bdp_ext.build_info(), indent=2))


def main() -> None:
    """Run the command line: exit code 2 and one sentence for what a user can mend, 1 where the
    numbers are no longer finite, 130 when stopped."""
    try:
        bdp.main(prog_name="bdp", standalone_mode=False)
    except UserError as error:
        click.echo(f"bdp: {error}", err=True)
        sys.exit(2)
    except Diverged as error:
        click.echo(f"bdp: {error}", err=True)
        sys.exit(1)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted:
        click.echo("bdp: stopped; the state is saved, go on with --resume.", err=True)
        sys.exit(130)
    except (KeyboardInterrupt, click.Abort):
        click.echo("bdp: stopped.", err=True)
        sys.exit(130)
