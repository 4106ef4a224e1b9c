"""What the settings of every kind of run have and can do."""

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import torch

from bdp_ext.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of every kind of run; the fields are the command line's options.

    Attributes:
        data: a name of `bdp_ext.data.NAMES` or a folder.
        limit_train, subset: train on that many images, or on that share of them.
        stream: leave the images on the disk until a batch needs them.
        threads: CPU threads; None leaves torch's choice.
        device: "auto" takes a GPU when there is one.
        amp: mixed precision; None: on a GPU only.
    """

    data: str
    epochs: int
    seed: int = 0
    image_size: int | None = None
    limit_train: int | None = None
    subset: float | None = None
    stream: bool = False
    threads: int | None = None
    device: str = "auto"
    amp: bool | None = None

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

    def differences(self, other: Mapping[str, Any]) -> list[str]:
        """The options that make this another run than one with these settings; what they lack has
        its default."""
        free = {"threads", "device"}  # where it runs, not what it computes
        return [
            option(field.name)
            for field in fields(self)
            if field.name not in free
            and other.get(field.name, field.default) != getattr(self, field.name)
        ]

    def require_one_of(self, name: str, choices: Collection[str]) -> None:
        """Raise UserError unless the setting is one of these."""
        value = getattr(self, name)
        if value not in choices:
            raise UserError(f"{option(name)} must be one of {', '.join(choices)}, got {value!r}.")

    def require_at_least(self, least: int, *names: str) -> None:
        """Raise UserError unless each of these settings is so large, or None."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value >= least:  # NaN is not
                raise UserError(f"{option(name)} must be at least {least}, got {value}.")

    def require_share(self, name: str) -> None:
        """Raise UserError unless the setting is in [0, 1)."""
        if not 0 <= getattr(self, name) < 1:
            raise UserError(f"{option(name)} must be in [0, 1), got {getattr(self, name)}.")


def option(name: str) -> str:
    """A setting as the command line spells it."""
    return f"--{name.replace('_', '-')}"


def read_plain(path: Path, settings: type[Settings], kind: str) -> dict[str, Any] | None:
    """The settings in a run's `config.json` as plain values, those that it lacks by default.

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
    kinds = get_type_hints(settings)
    known = {field.name: field.default for field in fields(settings)}
    try:
        values = {**known, **json.loads(path.read_text())}
        for name, value in values.items():
            if value is MISSING or name not in known:
                raise ValueError(f"{'no' if value is MISSING else 'unknown:'} {name}")
            # JSON may have 1 for 1.0.
            numbers = (value, float(value)) if type(value) is int else (value,)
            if not any(isinstance(number, kinds[name]) for number in numbers):
                raise ValueError(f"{name} is {value!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} holds no settings of a {kind} ({error}); move it away to start again."
        ) from error
    return values
