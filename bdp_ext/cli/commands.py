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
    amp_option,
    given_options,
    options,
    out_option,
    resume_option,
    rows,
)
from bdp_ext.cli.report import report
from bdp_ext.cli.reproduce import reproduce
from bdp_ext.cli.retrain import draw, retrain
from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS
from bdp_ext.pruning import CAPS, CRITERIA
from bdp_ext.pruning.baselines import PRUNERS
from bdp_ext.pruning.schedule import KINDS
from bdp_ext.search.config import SearchConfig
from bdp_ext.spaces import SPACES


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(bdp_ext.__version__, prog_name="bdp")
def bdp() -> None:
    """Differentiable architecture search on a shrinking set of samples (BDP, arXiv 2312.14200)."""


_option = options(
    SearchConfig,
    [(f"space {name}", space.defaults) for name, space in SPACES.items()]
    + [(f"method {name}", method.defaults) for name, method in METHODS.items()]
    + [("other pruners", {"criterion": "low-low"})],
)
SHARE = click.FloatRange(0, 1)


@bdp.command()
@_option("space", str, f"{', '.join(SPACES)}, or package.module:Name of your own.")
@_option("method", str, f"{', '.join(METHODS)}, or package.module:Name of your own.")
@_option(
    "data",
    str,
    "digits, cifar10, cifar100, imagenet16-120, or a folder with train/<class>/ images.",
)
@out_option
@_option("epochs", click.IntRange(1), "Epochs of the search; p-darts: of each of three stages.")
@_option("channels", click.IntRange(1), "Channels of the first stage.")
@_option("cells", click.IntRange(1), "Cells a stage; darts: in all.")
@_option("batch_size", click.IntRange(1), "Samples a step on each level.")
@_option("train_share", float, "Share of the images for the weights; the rest updates alpha.")
@click.option("--bdp/--no-bdp", "bdp", default=True, help="Prune both data sets, or neither.")
@_option("pruner", str, f"{', '.join(PRUNERS)}, or package.module:Name of your own.")
@_option(
    "interval",
    int,
    "Epochs between prunings, and the window of VoE.  [default: a quarter of --epochs, "
    "within 2 to 5]",
)
@_option("keep_train", SHARE, "Share of the training level left at the end.")
@_option("keep_valid", SHARE, "Share of the validation level left at the end.")
@_option("prune_train", SHARE, "Share of the training level each pruning takes.  [default: 0.3]")
@_option("prune_valid", SHARE, "Share of the validation level each pruning takes.  [default: 0.3]")
@_option("schedule", click.Choice(KINDS), "Shares of the current or of the initial size.")
@_option("warmup", click.IntRange(0), "Epochs before the first pruning; p-darts: in each stage.")
@_option("criterion", click.Choice(list(CRITERIA)), "Scores pruned first from the two levels.")
@_option("balance", click.Choice(list(CAPS)), "Caps on what a class may lose (Eq. 6).")
@_option("min_per_class", click.IntRange(1), "Samples every class keeps.")
@_option("seed", int, "Of the split, the weights, the order and the augmentation.")
@_option("eigenvalue_every", click.IntRange(0), "Epochs between Hessian eigenvalues; 0: none.")
@_option("threads", click.IntRange(1), "CPU threads.  [default: torch's choice]")
@_option("device", str, "auto, cpu, cuda, cuda:1, ...")
@_option("image_size", click.IntRange(1), "Resize the images to this height and width.")
@_option("limit_train", click.IntRange(1), "Use this many images, chosen at random.")
@_option("subset", click.FloatRange(0, 1), "Use this share of the images, chosen at random.")
@click.option("--stream", is_flag=True, help="Leave a folder's images on the disk until needed.")
@_option("lr", float, "Learning rate of the weights, annealed to --lr-min by a cosine.")
@_option("lr_min", float, "Where that ends.")
@_option("momentum", float, "Of the weights' SGD.")
@_option("weight_decay", float, "Of the weights.")
@_option("clip", float, "Largest norm of the weights' gradient.")
@_option("alpha_lr", float, "Learning rate of alpha's Adam.")
@_option("alpha_weight_decay", float, "Of alpha.")
@_option(
    "alpha_start", click.IntRange(0), "Epochs before the first alpha step; p-darts: in each stage."
)
@click.option(
    "--fused/--no-fused",
    "fused",
    default=True,
    help="Compute cells node by node: the same maths, faster; or mixed op by mixed op.",
)
@click.option(
    "--checkpoint-cells",
    "checkpoint_cells",
    is_flag=True,
    help="Save memory: compute cells again in the backward pass.",
)
@click.option(
    "--compile",
    "compile",
    is_flag=True,
    help="Compute full batches by torch.compile, which takes minutes at the start.",
)
@click.option(
    "--cuda-graphs", "cuda_graphs", is_flag=True, help="Launch a step's kernels all at once."
)
@amp_option
@resume_option
@click.pass_context
def search(context: click.Context, /, out: Path, resume: bool, **options: Any) -> None:
    """Search for a cell."""
    from bdp_ext.cli.progress import SearchProgress
    from bdp_ext.search.run import folder, run

    given = given_options(context, options)
    saved = folder(out).saved_config() if resume else None
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
@click.option(
    "--nb201",
    type=click.Path(path_type=Path),
    required=True,
    help="NAS-Bench-201-v1_1-096897.pth, or a table (.csv, .csv.gz).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def query(run_folder: Path | None, arch: str | None, nb201: Path, as_json: bool) -> None:
    """Look a cell up in NAS-Bench-201."""
    from bdp_ext.spaces.nas_bench_201_results import COLUMNS, Benchmark, check_architecture

    if (run_folder is None) == (arch is None):
        raise UserError("give either --run DIR or --arch STRING.")
    cells = {"cell": arch} if arch is not None else _found_cells(run_folder)
    for architecture in cells.values():
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
    """Run the command line: exit code 2 and one sentence for what a user can mend, 130 when
    stopped."""
    from bdp_ext.runs.folder import Interrupted

    try:
        bdp.main(prog_name="bdp", standalone_mode=False)
    except UserError as error:
        click.echo(f"bdp: {error}", err=True)
        sys.exit(2)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except Interrupted:
        click.echo("bdp: stopped; the state is saved, go on with --resume.", err=True)
        sys.exit(130)
    except (KeyboardInterrupt, click.Abort):
        click.echo("bdp: stopped.", err=True)
        sys.exit(130)
