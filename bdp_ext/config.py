"""The settings of a search: the command line's options, `config.json`, and what a checkpoint is
checked against."""

from dataclasses import dataclass
from typing import Any

import torch

from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS
from bdp_ext.pruning import CAPS, Schedule
from bdp_ext.spaces import SPACES

CRITERIA = {
    "low-low": ("lowest", "lowest"),
    "low-high": ("lowest", "highest"),
    "high-low": ("highest", "lowest"),
    "high-high": ("highest", "highest"),
    "random": ("random", "random"),
}
"""--criterion: which VoE goes first, on the training and on the validation level (the paper's Table
3)."""

PRUNE = 0.3
"""Share of a level's current size that a pruning takes by default: with m = 9 prunings 4 % are left
(Table 4)."""


@dataclass(frozen=True)
class SearchConfig:
    """Settings of one search; the defaults are those of the paper's NAS-Bench-201 runs (`of` knows
    those of the other spaces).

    Attributes:
        data: a name of `bdp_ext.data.NAMES` or a folder.
        limit_train, subset: use that many images, or that share of them.
        stream: leave the images on the disk until a batch needs them.
        channels, cells: width of the first stage, cells a stage.
        train_share: share of the images that trains the weights; the rest updates alpha.
        keep_train, keep_valid: share of a level left at the end; or
        prune_train, prune_valid: share that each pruning takes. Neither: `PRUNE`.
        alpha_start: epochs before the first alpha step.
        eigenvalue_every: epochs between Hessian eigenvalues; 0: none.
        threads: CPU threads; None leaves torch's choice.
        device: "auto" takes a GPU when there is one.
        amp: mixed precision; None: on a GPU only.

    Raises:
        UserError: a value outside its range.
    """

    space: str = "nas-bench-201"
    method: str = "darts"
    data: str = "digits"
    epochs: int = 50
    channels: int = 16
    cells: int = 5
    batch_size: int = 64
    train_share: float = 0.5
    bdp: bool = True
    interval: int = 5
    keep_train: float | None = None
    keep_valid: float | None = None
    prune_train: float | None = None
    prune_valid: float | None = None
    schedule: str = "geometric"
    warmup: int = 0
    criterion: str = "low-high"
    balance: str = "paper"
    min_per_class: int = 1
    seed: int = 0
    image_size: int | None = None
    limit_train: int | None = None
    subset: float | None = None
    stream: bool = False
    lr: float = 0.025
    lr_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3
    alpha_start: int = 0
    eigenvalue_every: int = 0
    threads: int | None = None
    device: str = "auto"
    amp: bool | None = None

    def __post_init__(self) -> None:
        for option, choices in (
            ("space", SPACES),
            ("method", METHODS),
            ("criterion", CRITERIA),
            ("balance", CAPS),
        ):
            value = getattr(self, option)
            if value not in choices:
                raise UserError(f"--{option} must be one of {', '.join(choices)}, got {value!r}.")
        for option in ("epochs", "channels", "cells", "batch_size", "min_per_class"):
            if getattr(self, option) < 1:
                raise UserError(
                    f"--{option.replace('_', '-')} must be at least 1, got {getattr(self, option)}."
                )
        for option in ("warmup", "alpha_start", "eigenvalue_every"):
            if getattr(self, option) < 0:
                raise UserError(f"--{option.replace('_', '-')} must be at least 0.")
        if self.threads is not None and self.threads < 1:
            raise UserError(f"--threads must be at least 1, got {self.threads}.")
        for level in ("train", "valid"):
            if None not in (getattr(self, f"keep_{level}"), getattr(self, f"prune_{level}")):
                raise UserError(f"give --keep-{level} or --prune-{level}, not both.")
            if self.bdp:
                self.level_schedule(level)

    @classmethod
    def of(cls, **given: Any) -> "SearchConfig":
        """The settings given, and for the others what is usual for the space and the method."""
        space = SPACES.get(given.get("space", cls.space))
        method = METHODS.get(given.get("method", cls.method))
        usual = {**(space.defaults if space else {}), **(method.defaults if method else {})}
        return cls(**{**usual, **given})

    def level_schedule(self, level: str) -> Schedule:
        """The pruning schedule of "train" or "valid"."""
        keep, prune = getattr(self, f"keep_{level}"), getattr(self, f"prune_{level}")
        if keep is None and prune is None:
            prune = PRUNE
        warmup = self.warmup
        if level == "valid" and self.alpha_start:
            # Its samples are seen from then on only, and a variance needs two scores.
            warmup = max(warmup, self.alpha_start + 2)
        try:
            return Schedule(self.epochs, self.interval, prune, keep, self.schedule, warmup)
        except ValueError as error:
            raise UserError(f"pruning of the {level} level: {error}") from error

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

    def differences(self, other: "SearchConfig") -> list[str]:
        """The options, as the command line spells them, that make this another search than
        `other`."""
        free = {"threads", "device"}  # where it runs, not what it computes
        names = [name for name in vars(self) if name not in free]
        return [
            f"--{name.replace('_', '-')}"
            for name in names
            if getattr(self, name) != getattr(other, name)
        ]
