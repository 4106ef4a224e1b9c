"""What the command line does with an architecture: `bdp retrain`, `bdp draw`."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bdp_ext.cli.options import (
    given_options,
    out_option,
    resume_option,
    rows,
    settings_options,
)
from bdp_ext.errors import UserError
from bdp_ext.retrain.config import GENOTYPE, SPACE, RetrainConfig, usual_protocol
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.architecture import edges, read_architecture


@click.command()
@out_option
@settings_options(
    RetrainConfig,
    [
        (f"{space.name} {name}", {**usual, "protocol": RetrainConfig.protocol})
        for space in SPACES.values()
        for name, usual in space.retraining.items()
    ],
)
@resume_option
@click.pass_context
def retrain(context: click.Context, /, out: Path, resume: bool, **values: Any) -> None:
    """Train the network of a found architecture from scratch.

    The defaults are those of the space's own protocol for CIFAR or for ImageNet.
    """
    from bdp_ext.cli.progress import RetrainProgress
    from bdp_ext.retrain.run import folder
    from bdp_ext.retrain.run import retrain as run

    given = given_options(context, values)
    if "genotype" in given:
        given["space"], given["genotype"] = read_architecture(given["genotype"], given.get("space"))
    saved = folder(out).saved_config(given.values()) if resume else None
    config = RetrainConfig(**{**vars(saved), **given}) if saved else _config(given)
    console = Console()
    with RetrainProgress(console) as progress:
        result = run(config, out, resume=resume, observer=progress)
    rows(
        console,
        {
            "top-1": f"{result['top1']:.2%}",
            "top-5": f"{result['top5']:.2%}",
            "parameters": f"{result['parameters']:,}",
            "multiply-adds": f"{result['flops']:,}",
            "time": f"{result['seconds']['wall']:.1f} s wall, {result['seconds']['cpu']:.1f} s CPU",
            "results": str(out / "result.json"),
        },
    )


def _config(given: dict[str, Any]) -> RetrainConfig:
    """The settings of a new run: by what was typed, and by the images where they decide."""
    from bdp_ext.data import image_size

    if "genotype" not in given:
        raise UserError("--genotype is missing: give FILE or STRING, or a published name.")
    given.setdefault("data", RetrainConfig.data)
    if "protocol" not in given:
        size = given.get("image_size") or image_size(given["data"])
        given["protocol"] = usual_protocol(given["space"], size)
    return RetrainConfig.of(**given)


@click.command()
@click.option("--genotype", required=True, help=GENOTYPE)
@click.option("--space", help=SPACE)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Picture to write: .svg, .png or .pdf.",
)
def draw(genotype: str, space: str | None, out: Path) -> None:
    """Draw an architecture's cells as graphs."""
    from bdp_ext.report.cells import draw as draw_graphs

    name, architecture = read_architecture(genotype, space)
    draw_graphs(edges(architecture, name), out)
