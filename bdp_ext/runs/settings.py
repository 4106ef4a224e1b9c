"""What the settings of every kind of run have and can do."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeVar

import torch

from bdp_ext.errors import UserError

Self = TypeVar("Self", bound="Settings")


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

    def differences(self: Self, other: Self) -> list[str]:
        """The options that make this another run than `other`."""
        free = {"threads", "device"}  # where it runs, not what it computes
        names = [name for name in vars(self) if name not in free]
        return [option(name) for name in names if getattr(self, name) != getattr(other, name)]

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
