"""What the command line does with an architecture: `bdp retrain`, `bdp draw`."""

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bdp_ext.cli.options import (
    amp_option,
    given_options,
    options,
    out_option,
    resume_option,
    rows,
    stream_option,
)
from bdp_ext.errors import UserError
from bdp_ext.retrain.config import (
    LR_SCHEDULES,
    OPTIMIZERS,
    RetrainConfig,
    usual_protocol,
)
from bdp_ext.spaces import IMAGENET_FROM, SPACES
from bdp_ext.spaces.architecture import read_architecture

PROTOCOLS = sorted({name for space in SPACES.values() for name in space.retraining})
GENOTYPE = (
    "A search's --out or its result.json, a text file, an architecture's string, or a published "
    "name such as DARTS_V2."
)

_option = options(
    RetrainConfig,
    [
        (f"{space.name} {name}", {**usual, "protocol": RetrainConfig.protocol})
        for space in SPACES.values()
        for name, usual in space.retraining.items()
    ],
)


@click.command()
@click.option("--genotype", help=GENOTYPE)
@_option("space", click.Choice(list(SPACES)), "Search space.  [default: the architecture's]")
@click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    help="Whose defaults and which strides.  "
    f"[default: imagenet from {IMAGENET_FROM} pixels on, where the space has it]",
)
@_option("data", str, "digits, cifar10, cifar100, imagenet16-120, or a folder with train/, test/.")
@out_option
@_option("epochs", click.IntRange(1), "Epochs.")
@_option("channels", click.IntRange(1), "Channels of the first stage.")
@_option(
    "cells", click.IntRange(1), "Cells, of the whole network or of a stage, as the space has it."
)
@_option("batch_size", click.IntRange(1), "Samples a step.")
@_option("optimizer", click.Choice(OPTIMIZERS), "rmsprop is TensorFlow's.")
@_option("lr", float, "Learning rate; it goes with the batch size.")
@_option("lr_schedule", click.Choice(LR_SCHEDULES), "cosine and linear end at 0.")
@_option("lr_decay", float, "What step multiplies it by.")
@_option("lr_decay_epochs", click.IntRange(1), "Epochs between that.")
@_option("warmup", click.IntRange(0), "Epochs in which it rises to --lr.")
@_option("momentum", float, "Of the optimizer.")
@click.option("--nesterov/--no-nesterov", "nesterov", default=None, help="Nesterov's momentum.")
@_option("weight_decay", float, "Weight decay.")
@click.option(
    "--decay-all/--decay-weights",
    "decay_all",
    default=None,
    help="Weight decay on biases and batch norms too.",
)
@_option("clip", float, "Largest norm of the gradient; 0: none.")
@_option("label_smoothing", float, "Share of a label that goes to all classes alike.")
@_option("auxiliary", float, "Weight of the auxiliary head's loss; 0: no head.")
@_option("drop_path", float, "Probability of dropping a path at the end; it rises linearly.")
@_option("dropout", float, "Probability of dropping a feature before the classifier.")
@_option("cutout", float, "Side of the blanked square, as a share of the image's.")
@_option("ema", float, "Decay of the weights' moving average; 0: none.")
@_option("evaluate_every", click.IntRange(1), "Epochs between tests.")
@_option("seed", int, "Of the weights, the order, the augmentation and what is dropped.")
@_option("threads", click.IntRange(1), "CPU threads.  [default: torch's choice]")
@_option("device", str, "auto, cpu, cuda, cuda:1, ...")
@_option(
    "image_size", click.IntRange(1), "Resize the images to this height and width.  [imagenet: 224]"
)
@_option("limit_train", click.IntRange(1), "Train on this many images, chosen at random.")
@_option("subset", click.FloatRange(0, 1), "Train on this share of them, chosen at random.")
@stream_option
@amp_option
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
    saved = folder(out).saved_config() if resume else None
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
@click.option("--space", type=click.Choice(list(SPACES)), help="[default: the architecture's]")
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
    draw_graphs(SPACES[name].graph(architecture), out)
