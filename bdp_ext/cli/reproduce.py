"""The experiments of the paper: `bdp reproduce`."""

import json
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bdp_ext.cli.options import out_option
from bdp_ext.errors import UserError
from bdp_ext.reproduce.experiments import EXPERIMENTS

RETRAIN = "retrain."


@click.command()
@click.argument("names", nargs=-1, required=True, type=click.Choice(list(EXPERIMENTS)))
@click.option(
    "--scale",
    "scale_name",
    type=click.Choice(["paper", "reduced"]),
    default="reduced",
    show_default=True,
    help="The paper's settings, for a GPU; or minutes a run on a CPU core.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="0, 1, ...")
@out_option
@click.option(
    "--data",
    help="reduced: CIFAR-10's images, a folder with train/<class>/ (and test/<class>/ for table5 "
    "and table6) or the name cifar10. paper: the folder of ImageNet, for table5 and table6.",
)
@click.option(
    "--nb201",
    type=click.Path(path_type=Path),
    help="NAS-Bench-201-v1_1-096897.pth, or a table (.csv, .csv.gz).",
)
@click.option(
    "--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at a time."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1, ...")
@click.option(
    "--set",
    "given",
    multiple=True,
    metavar="NAME=VALUE",
    help="Another setting for every search (epochs=10) or retraining (retrain.epochs=2).",
)
@click.option(
    "--recorded",
    type=click.Path(path_type=Path),
    help="Run nothing: write the tables again from the .json files in this folder.",
)
@click.option("--dry-run", is_flag=True, help="Print the runs and what they cost, and do nothing.")
def reproduce(
    names: tuple[str, ...],
    scale_name: str,
    seeds: int,
    out: Path,
    data: str | None,
    nb201: Path | None,
    jobs: int,
    device: str,
    given: tuple[str, ...],
    recorded: Path | None,
    dry_run: bool,
) -> None:
    """Run experiments of the paper and write their tables.

    Runs are in OUT/runs, one folder each; those of equal settings are shared, finished ones are not
    repeated, stopped ones go on. A failed one does not stop the others.
    """
    from bdp_ext.reproduce.scale import paper_scale, reduced_scale
    from bdp_ext.reproduce.session import Session
    from bdp_ext.runs.folder import Interrupted
    from bdp_ext.spaces.nas_bench_201_results import Benchmark

    make = {"paper": paper_scale, "reduced": reduced_scale}[scale_name]
    if data is not None and Path(data).is_dir():
        data = str(Path(data).resolve())
    scale = make(data or "DIR").override(*_settings(given))
    session = Session(list(dict.fromkeys(names)), scale, seeds)
    if dry_run:
        _print_plan(session)
        return
    if (
        recorded is None
        and data is None
        and any(run.options["data"] == "DIR" for run in session.runs)
    ):
        raise UserError(_DATA[scale_name])
    if nb201 is None and session.needs_benchmark:
        raise UserError(
            f"{', '.join(names)} looks cells up: give --nb201 FILE, NAS-Bench-201-v1_1-096897.pth "
            "or a table of it (.csv, .csv.gz)."
        )
    benchmark = Benchmark(nb201) if nb201 and session.needs_benchmark else None
    if recorded is not None:
        session.write_again(recorded, out, benchmark, click.echo)
        return
    try:
        failures = session.complete(out, benchmark, jobs=jobs, device=device, say=click.echo)
    except Interrupted:
        click.echo("bdp: stopped; the runs are saved, run it again to go on.", err=True)
        sys.exit(130)
    if failures:
        click.echo(f"{len(failures)} of {len(session.runs)} runs have no result:", err=True)
        for name, why in failures.items():
            click.echo(f"  {name}: {why}", err=True)
        sys.exit(1)


_DATA = {
    "reduced": "--scale reduced searches CIFAR-10's images: give --data DIR, a folder with "
    "train/<class>/ and test/<class>/, or --data cifar10, which downloads them.",
    "paper": "this experiment trains on ImageNet: give --data DIR, a folder with train/<class>/ "
    "and val/<class>/.",
}


def _settings(given: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """--set, of the searches and of the retrainings."""
    search: dict[str, Any] = {}
    retrain: dict[str, Any] = {}
    for setting in given:
        name, equals, text = setting.partition("=")
        if not equals:
            raise UserError(f"--set {setting} must be NAME=VALUE, such as epochs=10.")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        name = name.replace("-", "_")
        if name.startswith(RETRAIN):
            retrain[name.removeprefix(RETRAIN)] = value
        else:
            search[name] = value
    return search, retrain


def _print_plan(session: Any) -> None:
    from bdp_ext.reproduce.estimate import Estimate

    grid = Table("run", "epochs", "samples", "on disk")
    estimates = [run.estimate() for run in session.runs]
    for run, estimate in zip(session.runs, estimates, strict=True):
        grid.add_row(run.name, *_numbers(estimate))
    console = Console(width=140) if not sys.stdout.isatty() else Console()
    console.print(grid)
    console.print(
        "{} runs: {} epochs, {} samples, {}".format(
            len(estimates), *_numbers(sum(estimates, Estimate()))
        ),
        highlight=False,
    )
    console.print(
        "Samples are forwarded for updates, on both levels, as if no class cap bound; on disk are "
        "the checkpoints.",
        soft_wrap=True,
    )
    for line in session.scale.scaled_down:
        console.print(f"Scaled down: {line}", soft_wrap=True, highlight=False)


def _numbers(estimate: Any) -> tuple[str, str, str]:
    return f"{estimate.epochs:,}", f"{estimate.samples:,}", f"{estimate.disk / 1e6:,.1f} MB"
