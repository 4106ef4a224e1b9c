"""What the user passed to `bdp_ext.prune`, and the levels that it makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from bdp_ext.dropin.epoch_clock import UNITS
from bdp_ext.dropin.labels import labels_of, members_of
from bdp_ext.dropin.level import Level
from bdp_ext.dropin.pair_loader import SharedLevel, first_half_labels, second_half
from bdp_ext.pruning import CRITERIA, LEVELS, PRUNE, Schedule, VoePruner
from bdp_ext.pruning.balance import CapsExpression
from bdp_ext.pruning.schedule import default_interval


@dataclass(frozen=True)
class Options:
    """The keyword options of `bdp_ext.prune` that make schedules and pruners.

    Raises:
        ValueError: one that is not among its choices.
    """

    epochs: int | Sequence[int]
    unit: str
    level: str
    interval: int | None
    prune: tuple[float | None, float | None]
    keep: tuple[float | None, float | None]
    schedule: str
    warmup: int | tuple[int, int]
    alpha_start: int
    criterion: str
    balance: str | CapsExpression
    min_per_class: int
    seed: int
    labels: tuple[Any, Any]
    indices: tuple[Any, Any]
    valid: tuple[Any, Sequence[int]] | None

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise ValueError(
                f"bdp_ext.prune: unit must be one of {', '.join(UNITS)}, got {self.unit!r}."
            )
        if self.level not in ("both", *LEVELS):
            raise ValueError(
                f"bdp_ext.prune: level must be 'both', 'train' or 'valid', got {self.level!r}."
            )
        if not isinstance(self.criterion, str) or self.criterion not in CRITERIA:
            got = self.criterion if isinstance(self.criterion, str) else type(self.criterion)
            raise ValueError(
                f"bdp_ext.prune: criterion says which score goes first, one of "
                f"{', '.join(CRITERIA)}, got {got!r}; pass the module that computes the loss as "
                "the third argument or as loss=."
            )

    def levels(
        self, train_queue: DataLoader[Any], valid_queue: DataLoader[Any] | None
    ) -> dict[str, Level]:
        """ "train" and, unless one loader of one level was given, "valid".

        Raises:
            ValueError: an option or a data set that cannot be used.
        """
        steps, labels = len(train_queue), self.labels[0]
        pairs = valid_queue is None and self.level != "train"
        if pairs and labels is None:
            labels = first_half_labels(train_queue.dataset)
        levels = {"train": self._of_loader("train", train_queue, labels, steps)}
        if valid_queue is not None:
            levels["valid"] = self._of_loader("valid", valid_queue, self.labels[1], steps)
        elif pairs:
            second, members = second_half(train_queue.dataset, self.valid)
            labels = labels_of(second, self.labels[1], "valid")
            pruner = self._pruner("valid", labels[members], steps)
            levels["valid"] = SharedLevel("valid", labels, members, pruner, second)
        return levels

    def _of_loader(self, name: str, loader: DataLoader[Any], given: Any, steps: int) -> Level:
        labels = labels_of(loader.dataset, given, name)
        members, known = members_of(loader, self.indices[LEVELS.index(name)], name)
        return Level(name, labels, members, self._pruner(name, labels[members], steps), known)

    def _pruner(self, name: str, labels: Tensor, steps: int) -> VoePruner | None:
        """A pruner for a level's samples [n], when it is to be pruned."""
        if self.level not in ("both", name):
            return None
        which = LEVELS.index(name)
        return VoePruner(
            labels,
            self._schedule(name, steps),
            criterion=CRITERIA[self.criterion][which],
            balance=self.balance,
            min_per_class=self.min_per_class,
            seed=self.seed + which,
        )

    def _schedule(self, name: str, steps: int) -> Schedule:
        """The schedule of "train" or "valid"; with unit="step" the user counts in steps, of which
        `steps` make an epoch."""

        def in_epochs(given: int) -> int:
            return int(given) // steps if self.unit == "step" else int(given)

        which = LEVELS.index(name)
        given = (self.epochs,) if isinstance(self.epochs, int) else self.epochs
        stages = tuple(in_epochs(stage) for stage in given)
        if not stages or min(stages) < 2:
            steps_too = f" ({steps} steps make one)" if self.unit == "step" else ""
            raise ValueError(
                f"bdp_ext.prune: epochs={self.epochs} leaves a search of fewer than two "
                f"epochs{steps_too}, in which no variance of errors can be known; search longer."
            )
        prune, keep = self.prune[which], self.keep[which]
        if prune is None and keep is None:
            prune = PRUNE
        warmup = self.warmup if isinstance(self.warmup, int) else self.warmup[which]
        try:
            return Schedule(
                stages,
                default_interval(stages) if self.interval is None else in_epochs(self.interval),
                prune,
                keep,
                self.schedule,
                in_epochs(warmup),
                in_epochs(self.alpha_start) if name == "valid" else 0,
            )
        except ValueError as error:
            raise ValueError(f"bdp_ext.prune: the {name} level: {error}") from error


def check_queues(train_queue: Any, valid_queue: Any, level: str) -> None:
    """Refuse loaders that cannot be pruned.

    Raises:
        TypeError: not a `DataLoader`.
        ValueError: an iterable data set, no automatic batching, or one loader where two are needed.
    """
    if valid_queue is None and level == "valid":
        raise ValueError(
            "bdp_ext.prune: level='valid' needs both queues (the training queue keeps the time); "
            "pass bdp_ext.prune(train_queue, valid_queue, ...)."
        )
    if valid_queue is train_queue:
        raise ValueError(
            "bdp_ext.prune: both queues are the same loader, so nothing tells the levels apart; "
            "build a second DataLoader for the validation level."
        )
    _check_loader(train_queue, "train")
    if valid_queue is not None:
        _check_loader(valid_queue, "valid")


def _check_loader(loader: Any, level: str) -> None:
    if not isinstance(loader, DataLoader) or not issubclass(type(loader), DataLoader):
        raise TypeError(
            f"bdp_ext.prune: the {level} queue must be a torch DataLoader, got "
            f"{type(loader).__name__}; call it right after the loaders are built (for Accelerate: "
            "bdp_ext.integrations.accelerate.prune)."
        )
    dataset = loader.dataset
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise ValueError(
            f"bdp_ext.prune: the {level} data set {type(dataset).__name__} is iterable, so its "
            "samples have no number to remember them by; use a map-style data set (with "
            "__getitem__ and __len__)."
        )
    try:
        len(loader)
    except TypeError as error:
        raise ValueError(
            f"bdp_ext.prune: the {level} sampler has no length, so nothing says how long a pass "
            "is; give it __len__."
        ) from error
    if loader.batch_sampler is None and not isinstance(loader.sampler, BatchSampler):
        raise ValueError(
            f"bdp_ext.prune: the {level} loader has batch_size=None, so it draws no batches; give "
            "it a batch_size or a batch_sampler."
        )
