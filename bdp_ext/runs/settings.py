"""Settings of a run, each declared once: a field says its type, default, range and help, and the
command line, the checks and the help are made from that."""

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any, get_args

import torch

from bdp_ext.data import ImageSet, load
from bdp_ext.errors import UserError


@dataclass(frozen=True)
class Range:
    """Which numbers a setting may be; none of them is infinite."""

    at_least: float = -math.inf
    above: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf

    def __contains__(self, value: float) -> bool:
        return self.at_least <= value <= self.at_most and self.above < value < self.below

    def __str__(self) -> str:
        bounds = {name: bound for name, bound in vars(self).items() if math.isfinite(bound)}
        return " and ".join(f"{name.replace('_', ' ')} {bound:,}" for name, bound in bounds.items())


EPOCHS = Range(at_least=1, at_most=10_000)
EPOCHS_OR_NONE = Range(at_least=0, at_most=10_000)
NORM = Range(at_least=0, at_most=1_000_000)
CHANNELS = Range(at_least=1, at_most=4096)
CELLS = Range(at_least=1, at_most=200)
BATCH = Range(at_least=1, at_most=65_536)
SAMPLES = Range(at_least=1, at_most=10**9)
RATE = Range(above=0, at_most=1e24)  # a step of float32 weights can be that long
DECAY = Range(at_least=0, at_most=1_000)
SHARE = Range(above=0, at_most=1)
PROBABILITY = Range(at_least=0, below=1)


def setting(
    help: str,
    default: Any = MISSING,
    allowed: Range | Collection[str] = (),
    *,
    unset: str = "",
    off: str = "",
) -> Any:
    """A field of `Settings`.

    Args:
        help: a sentence for the command line.
        default: None: may be left open.
        allowed: which numbers, or words; empty: any, but no empty word.
        unset: what None means.
        off: the option that turns it off, where that is not `--no-NAME`.
    """
    return field(
        default=default, metadata={"help": help, "allowed": allowed, "unset": unset, "off": off}
    )


def option(name: str) -> str:
    """A setting as the command line spells it."""
    return f"--{name.replace('_', '-')}"


def kind(setting: "Field[Any]") -> type:
    """bool, int, float or str, None left aside."""
    one, *_ = (each for each in get_args(setting.type) or (setting.type,) if each is not NoneType)
    return one  # type: ignore[no-any-return]


def refusal(setting: "Field[Any]", value: object) -> UserError:
    """The sentence for a value that the setting cannot be."""
    words = {bool: "true or false", str: "a word", int: "a whole number", float: "a number"}
    text, allowed = words[kind(setting)], setting.metadata["allowed"]
    if isinstance(allowed, Range):
        text += f", {allowed}"
    elif allowed:
        text = f"one of {', '.join(allowed)}"
    return UserError(f"{option(setting.name)} must be {text}; got {str(value)[:40]!r}.")


def check(settings: type["Settings"], values: Mapping[str, Any]) -> None:
    """Raise UserError for the first value that its setting cannot be."""
    for each in fields(settings):
        value = values.get(each.name)
        if not _fits(each, value):
            raise refusal(each, value)


def _fits(setting: "Field[Any]", value: Any) -> bool:
    if value is None:
        return setting.default is None
    wanted = kind(setting)
    kinds = (float, int) if wanted is float else wanted  # 1 for 1.0, but True is no number
    if not isinstance(value, kinds) or isinstance(value, bool) != (wanted is bool):
        return False
    allowed = setting.metadata["allowed"]
    return value in allowed if allowed else value != ""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of every kind of run; the fields are the command line's options.

    Raises:
        UserError: a value outside its range.
    """

    data: str
    epochs: int
    lr: float
    seed: int = setting("Of whatever is random.", 0, Range(at_least=0, at_most=2**63 - 1))
    image_size: int | None = setting(
        "Resize the images to this height and width.",
        None,
        Range(at_least=1, at_most=4096),
        unset="as they are",
    )
    limit_train: int | None = setting(
        "Use this many training images, chosen at random.", None, SAMPLES, unset="all"
    )
    subset: float | None = setting(
        "Use this share of the training images, chosen at random.", None, SHARE, unset="all"
    )
    stream: bool = setting("Leave a folder's images on the disk until a batch needs them.", False)
    threads: int | None = setting(
        "CPU threads.", None, Range(at_least=1, at_most=1024), unset="torch's choice"
    )
    device: str = setting("auto (a GPU when there is one), cpu, cuda, cuda:1, ...", "auto")
    amp: bool | None = setting("Mixed precision.", None, unset="on a GPU")

    def __post_init__(self) -> None:
        check(type(self), vars(self))

    def torch_device(self) -> torch.device:
        """The device that `device` names, checked to be there."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        try:
            device = torch.device(self.device)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError, NotImplementedError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"--device {self.device} cannot be used: {reason}") from error
        return device

    def images(self, split: str = "train") -> ImageSet:
        """The images of a split: "train" or "test".

        Raises:
            UserError: see `bdp_ext.data.load`.
        """
        chosen: dict[str, Any] = {}
        if split == "train":
            chosen = {"limit": self.limit_train, "subset": self.subset, "seed": self.seed}
        return load(
            self.data, split=split, image_size=self.image_size, stream=self.stream, **chosen
        )

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """The options that make this another run than that of other settings.

        Args:
            other: by name; what is missing is at its default.
        """
        free = {"threads", "device"}  # where it runs, not what it computes
        defaults = {each.name: each.default for each in fields(self)}
        return [
            option(name)
            for name, value in vars(self).items()
            if name not in free and value != other.get(name, defaults[name])
        ]


def read_plain(path: Path, settings: type[Settings], kind: str) -> dict[str, Any] | None:
    """The settings in a run's `config.json` as plain values, each in its range; those that it lacks
    have their defaults.

    Nothing is imported, unlike by `settings(...)`, which looks up what its values name: the file
    may come from somebody else.

    Args:
        settings: the class of the run's settings.
        kind: the job's.

    Returns:
        None where there is no file.

    Raises:
        UserError: it holds no such settings.
    """
    defaults = {each.name: each.default for each in fields(settings)}
    try:
        values: dict[str, Any] = {**defaults, **json.loads(path.read_text())}
        for name in values.keys() - defaults.keys():
            raise ValueError(f"there is no {option(name)}")
        check(settings, values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, UserError) as error:
        raise no_settings(path, kind, error) from error
    return values


def no_settings(path: Path, kind: str, error: Exception) -> UserError:
    """The sentence for a foreign `config.json`."""
    return UserError(
        f"{path} holds no settings of a {kind} ({error}); move it away to start again."
    )
