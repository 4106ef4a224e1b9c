"""The settings of a search: the command line's options, `config.json`, and what a checkpoint is
checked against."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bdp_ext.errors import UserError
from bdp_ext.methods import find_method
from bdp_ext.pruning import CAPS, CRITERIA, LEVELS, PRUNE, Pruner, Schedule
from bdp_ext.pruning.baselines import find_pruner
from bdp_ext.pruning.schedule import default_interval
from bdp_ext.runs.settings import Settings, option
from bdp_ext.spaces import find_space


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """Settings of one search; the defaults are those of the paper's NAS-Bench-201 runs (`of` knows
    those of the other spaces).

    Attributes:
        channels, cells: width of the first stage, cells a stage.
        bdp: False is the pruner "none".
        train_share: share of the images that trains the weights; the rest updates alpha.
        keep_train, keep_valid: share of a level left at the end; or
        prune_train, prune_valid: share that each pruning takes. Neither: `PRUNE`.
        epochs: of the search; of each stage, where a method has several (P-DARTS).
        interval: epochs between prunings; None: `default_interval`, whose answer takes its place.
        alpha_start: epochs before the first alpha step, in each stage.
        eigenvalue_every: epochs between Hessian eigenvalues; 0: none.
        fused: compute the supernet's cells node by node (`spaces/fused.py`), not op by op.
        checkpoint_cells: compute cells again in the backward pass instead of keeping activations.
        compile: forward and backward passes of full batches by torch.compile.
        cuda_graphs: gradients of full batches as CUDA graphs.

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
    pruner: str = "bdp"
    interval: int | None = None
    keep_train: float | None = None
    keep_valid: float | None = None
    prune_train: float | None = None
    prune_valid: float | None = None
    schedule: str = "geometric"
    warmup: int = 0
    criterion: str = "low-high"
    balance: str = "paper"
    min_per_class: int = 1
    lr: float = 0.025
    lr_min: float = 0.001
    momentum: float = 0.9
    weight_decay: float = 5e-4
    clip: float = 5.0
    alpha_lr: float = 3e-4
    alpha_weight_decay: float = 1e-3
    alpha_start: int = 0
    eigenvalue_every: int = 0
    fused: bool = True
    checkpoint_cells: bool = False
    compile: bool = False
    cuda_graphs: bool = False

    def __post_init__(self) -> None:
        find_space(self.space)
        find_method(self.method)
        for name, choices in (("criterion", CRITERIA), ("balance", CAPS)):
            self.require_one_of(name, choices)
        self.require_at_least(
            1, "epochs", "channels", "cells", "batch_size", "min_per_class", "threads"
        )
        self.require_at_least(0, "warmup", "alpha_start", "eigenvalue_every")
        if self.interval is None:
            object.__setattr__(self, "interval", default_interval(self._stage_epochs))
        for level in LEVELS:
            if None not in (getattr(self, f"keep_{level}"), getattr(self, f"prune_{level}")):
                raise UserError(f"give --keep-{level} or --prune-{level}, not both.")
        for level in self.pruned_levels:
            self.level_schedule(level)
        self._check_criterion()
        self._check_compile()

    @classmethod
    def of(cls, **given: Any) -> "SearchConfig":
        """The settings given, and for the others what is usual for the space, the method and the
        pruner."""
        space = find_space(given.get("space", cls.space))
        method = find_method(given.get("method", cls.method))
        pruner = find_pruner(given.get("pruner", cls.pruner))
        usual = {**space.defaults, **method.defaults, **(pruner.defaults if pruner else {})}
        settings = {**usual, **given}
        if "alpha_start" not in settings:
            epochs = settings.get("epochs", cls.epochs)
            interval = settings.get("interval") or default_interval((epochs,))
            settings["alpha_start"] = usual_alpha_start(method.alpha_start, epochs, interval)
        return cls(**settings)

    @property
    def pruner_class(self) -> type[Pruner] | None:
        """What prunes a level; None: nothing does."""
        return find_pruner(self.pruner) if self.bdp else None

    @property
    def pruned_levels(self) -> tuple[str, ...]:
        """The levels that the search uses and prunes."""
        if not self.pruner_class:
            return ()
        return LEVELS[: find_method(self.method).levels]

    @property
    def stages(self) -> int:
        """Parts of the search, of `epochs` each."""
        return find_method(self.method).stages

    @property
    def all_epochs(self) -> int:
        """Epochs of all stages."""
        return sum(self._stage_epochs)

    @property
    def _stage_epochs(self) -> tuple[int, ...]:
        return (self.epochs,) * self.stages

    def level_schedule(self, level: str) -> Schedule:
        """The pruning schedule of "train" or "valid"."""
        keep, prune = getattr(self, f"keep_{level}"), getattr(self, f"prune_{level}")
        if keep is None and prune is None:
            prune = PRUNE
        try:
            assert self.interval is not None
            return Schedule(
                self._stage_epochs,
                self.interval,
                prune,
                keep,
                self.schedule,
                self.warmup,
                self.alpha_start if level == "valid" else 0,
            )
        except ValueError as error:
            raise UserError(f"pruning of the {level} level: {error}") from error

    def _check_criterion(self) -> None:
        pruner = self.pruner_class
        if pruner and not set(CRITERIA[self.criterion]) <= set(pruner.criteria):
            fits = [name for name, both in CRITERIA.items() if set(both) <= set(pruner.criteria)]
            raise UserError(
                f"--pruner {self.pruner} goes with --criterion {' or '.join(fits)}, got "
                f"{self.criterion!r}."
            )

    def _check_compile(self) -> None:
        fast = [name for name in ("compile", "cuda_graphs") if getattr(self, name)]
        if fast and find_method(self.method).skips_zeros:
            raise UserError(
                f"{option(fast[0])} does not go with --method {self.method}, which computes other "
                "candidates in each step: leave it out."
            )
        if not self.compile:
            return
        pruner = self.pruner_class
        if pruner and pruner.features:
            raise UserError(
                f"--compile does not go with --pruner {self.pruner}, which looks into the "
                "supernet: leave one of them out."
            )
        if find_method(self.method).stages > 1:
            raise UserError(
                f"--compile does not go with --method {self.method}, whose supernet changes in the "
                "course of the search and would be compiled again and again: leave it out."
            )


def usual_alpha_start(share: Fraction, epochs: int, interval: int) -> int:
    """Epochs before the first alpha step of each stage: a method's share of them, rounded down, but
    such that the last pruning finds two scores of the validation level."""
    last_pruning = (epochs - 1) // interval * interval
    return max(0, min(int(share * epochs), last_pruning - 2))
