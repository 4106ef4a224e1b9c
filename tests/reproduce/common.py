"""What the tests of the experiments share."""

from pathlib import Path

from click.testing import CliRunner, Result

from bdp_ext import cli
from bdp_ext.reproduce.scale import paper_scale, reduced_scale

SCALES = {"paper": paper_scale("/imagenet"), "reduced": reduced_scale("/cifar")}
TINY = {
    "epochs": 5,
    "interval": 2,
    "limit_train": 200,
    "channels": 2,
    "image_size": 8,
    "batch_size": 20,
}


def set_options(**settings: object) -> list[str]:
    return [f"--set={name}={value}" for name, value in {**TINY, **settings}.items()]


def reproduce(out: Path, *given: object) -> Result:
    return CliRunner().invoke(cli.bdp, ["reproduce", "--out", str(out), *map(str, given)])
