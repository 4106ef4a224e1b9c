"""What the commands of the command line have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console

from bdp_ext.runs import settings

Command = TypeVar("Command", bound=Callable[..., Any])
Decorator = Callable[[Command], Command]

SHARE = click.FloatRange(0, 1)

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the run's files.",
)
resume_option = click.option("--resume", is_flag=True, help="Go on with the run in --out.")
stream_option = click.option(
    "--stream", is_flag=True, help="Leave a folder's images on the disk until needed."
)
amp_option = click.option(
    "--amp/--no-amp", "amp", default=None, help="Mixed precision.  [default: on a GPU]"
)


def options(
    config: type[settings.Settings], usual: Sequence[tuple[str, Mapping[str, Any]]]
) -> Callable[[str, Any, str], Decorator[Any]]:
    """A function (setting, its type, its help) -> an option of a command.

    The settings' class has the defaults, so that only what was typed counts as given; the help
    shows them, and those that differ.

    Args:
        config: the settings' class.
        usual: (when, defaults then), for the help.
    """
    defaults = {field.name: field.default for field in fields(config)}

    def option(name: str, kind: Any, text: str) -> Decorator[Any]:
        default = defaults[name]
        if default is not None and default is not MISSING:
            others = [f"{when}: {d[name]}" for when, d in usual if d.get(name, default) != default]
            text += f"  [default: {'; '.join([str(default), *others])}]"
        return click.option(settings.option(name), name, type=kind, help=text)

    return option


def given_options(context: click.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed; a folder of images by its whole path, since a resumed run may
    start somewhere else."""
    given = {
        name: value
        for name, value in values.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if "data" in given and Path(given["data"]).is_dir():
        given["data"] = str(Path(given["data"]).resolve())
    return given


def rows(console: Console, values: Mapping[str, str]) -> None:
    """Print names and values, one below the other."""
    for name, value in values.items():
        console.print(f"{name:<14}{value}", soft_wrap=True, highlight=False, markup=False)
