"""The settings of a search: the command line's options, `config.json`, and what a checkpoint is
checked against."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from bdp_ext.data import NAMES
from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS, find_method
from bdp_ext.pruning import CAPS, CRITERIA, LEVELS, PRUNE, Pruner, Schedule
from bdp_ext.pruning.baselines import PRUNERS, find_pruner
from bdp_ext.pruning.schedule import KINDS, default_interval
from bdp_ext.runs.settings import (
    BATCH,
    CELLS,
    CHANNELS,
    DECAY,
    EPOCHS,
    EPOCHS_OR_NONE,
    PROBABILITY,
    RATE,
    SAMPLES,
    SHARE,
    Range,
    Settings,
    option,
    setting,
)
from bdp_ext.spaces import SPACES, find_space

LATE_ALPHA = "".join(
    f"; {name}: {float(method.alpha_start):.0%} of them"
    for name, method in METHODS.items()
    if method.alpha_start
)


@dataclass(frozen=True, kw_only=True)
class SearchConfig(Settings):
    """Settings of one search; the defaults are those of the paper's NAS-Bench-201 runs (`of` knows
    those of the other spaces)."""

    space: str = setting(
        f"{', '.join(SPACES)}, or package.module:Name of your own.", "nas-bench-201"
    )
    method: str = setting(f"{', '.join(METHODS)}, or package.module:Name of your own.", "darts")
    data: str = setting(f"{', '.join(NAMES)}, or a folder with train/<class>/ images.", "digits")
    epochs: int = setting(
        "Epochs of the search; of each stage, where a method has several (p-darts).", 50, EPOCHS
    )
    channels: int = setting("Channels of the first stage.", 16, CHANNELS)
    cells: int = setting("Cells a stage; darts: in all.", 5, CELLS)
    batch_size: int = setting("Samples a step on each level.", 64, BATCH)
    train_share: float = setting(
        "Share of the images for the weights; the rest updates alpha.", 0.5, Range(above=0, below=1)
    )
    bdp: bool = setting("Prune both data sets, or neither (as --pruner none).", True)
    pruner: str = setting(f"{', '.join(PRUNERS)}, or package.module:Name of your own.", "bdp")
    interval: int | None = setting(
        "Epochs between prunings, and the window of VoE.",
        None,
        Range(at_least=2, at_most=10_000),
        unset="a quarter of the epochs, within 2 to 5",
    )
    keep_train: float | None = setting("Share of the training level left at the end.", None, SHARE)
    keep_valid: float | None = setting(
        "Share of the validation level left at the end.", None, SHARE
    )
    prune_train: float | None = setting(
        "Share of the training level each pruning takes.", None, PROBABILITY, unset=str(PRUNE)
    )
    prune_valid: float | None = setting(
        "Share of the validation level each pruning takes.", None, PROBABILITY, unset=str(PRUNE)
    )
    schedule: str = setting("Shares of the current or of the initial size.", "geometric", KINDS)
    warmup: int = setting("Epochs before the first pruning, in each stage.", 0, EPOCHS_OR_NONE)
    criterion: str = setting("Scores pruned first from the two levels.", "low-high", CRITERIA)
    balance: str = setting("Caps on what a class may lose (Eq. 6).", "paper", CAPS)
    min_per_class: int = setting("Samples every class keeps.", 1, SAMPLES)
    lr: float = setting(
        "Learning rate of the weights, annealed to --lr-min by a cosine.", 0.025, RATE
    )
    lr_min: float = setting("Where that ends.", 0.001, DECAY)
    momentum: float = setting("Of the weights' SGD.", 0.9, PROBABILITY)
    weight_decay: float = setting("Of the weights.", 5e-4, DECAY)
    clip: float = setting(
        "Largest norm of the weights' gradient.", 5.0, Range(above=0, at_most=1_000_000)
    )
    alpha_lr: float = setting("Learning rate of alpha's Adam.", 3e-4, RATE)
    alpha_weight_decay: float = setting("Of alpha.", 1e-3, DECAY)
    alpha_start: int = setting(
        f"Epochs before the first alpha step, in each stage{LATE_ALPHA}.",
        0,
        EPOCHS_OR_NONE,
    )
    eigenvalue_every: int = setting(
        "Epochs between Hessian eigenvalues; 0: none.", 0, EPOCHS_OR_NONE
    )
    fused: bool = setting(
        "Compute cells node by node: the same maths, faster; or mixed op by mixed op.", True
    )
    checkpoint_cells: bool = setting(
        "Save memory: compute cells again in the backward pass.", False
    )
    compile: bool = setting(
        "Compute full batches by torch.compile, which takes minutes at the start.", False
    )
    cuda_graphs: bool = setting("Launch a step's kernels all at once, on a GPU.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        find_space(self.space)
        find_method(self.method)
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
