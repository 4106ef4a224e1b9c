"""What the commands of the command line have in common."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from bdp_ext.runs import Settings
from bdp_ext.runs.settings import Range, kind, option, refusal

Usual = Sequence[tuple[str, Mapping[str, Any]]]
"""(when, defaults then)"""

out_option = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Folder for the run's files.",
)
resume_option = click.option("--resume", is_flag=True, help="Go on with the run in --out.")


class _Value(click.ParamType):  # type: ignore[type-arg]
    """The word that was typed as a setting's type; the settings check its range."""

    def __init__(self, setting: "Field[Any]") -> None:
        self.setting = setting
        self.name = {str: "text", int: "integer", float: "number"}[kind(setting)]

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return kind(self.setting)(value)
        except ValueError as error:
            raise refusal(self.setting, value) from error


def settings_options(config: type[Settings], usual: Usual) -> Callable[[Any], Any]:
    """A command's options for all settings of a run, those of its own kind first.

    The settings' class has the defaults, so that only what was typed counts as given; the help
    shows them, and those that differ.
    """
    settings = {setting.name: setting for setting in fields(config)}

    def decorate(command: Any) -> Any:
        for name in reversed(list(dict.fromkeys([*config.__annotations__, *settings]))):
            command = _option(settings[name], usual)(command)
        return command

    return decorate


def _option(setting: "Field[Any]", usual: Usual) -> Callable[[Any], Any]:
    name, default, about = setting.name, setting.default, setting.metadata
    allowed = about["allowed"]
    then = {when: others[name] for when, others in usual if name in others}
    shown = about["unset"] if default is None or default is MISSING else _word(default)
    limits = str(allowed) if isinstance(allowed, Range) else ""
    notes = [limits, f"default: {shown}" if shown else ""]
    notes += [f"{when}: {_word(other)}" for when, other in then.items() if other != default]
    text = f"{about['help']}  [{'; '.join(filter(None, notes))}]"
    if kind(setting) is bool:
        off = about["off"] or option(f"no_{name}")
        return click.option(f"{option(name)}/{off}", name, default=None, help=text)
    choices = f"[{'|'.join(allowed)}]" if allowed and not limits else None
    return click.option(option(name), name, type=_Value(setting), metavar=choices, help=text)


def _word(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def given_options(context: click.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were typed; a folder of images by its whole path, since a resumed run may
    start somewhere else."""
    given = {
        name: value
        for name, value in values.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if given.get("data") and Path(given["data"]).is_dir():
        given["data"] = str(Path(given["data"]).resolve())
    return given


def rows(console: Console, values: Mapping[str, str]) -> None:
    """Print names and values, one below the other."""
    for name, value in values.items():
        console.print(f"{name:<14}{value}", soft_wrap=True, highlight=False, markup=False)
