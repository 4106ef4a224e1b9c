"""Makes the levels and their schedules from what the user passed to `bdp_ext.prune`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, IterableDataset

from bdp_ext.dropin._clock import UNITS
from bdp_ext.dropin._labels import labels_of, members_of
from bdp_ext.dropin._level import Level
from bdp_ext.dropin._pairs import SharedLevel, first_half_labels, second_half
from bdp_ext.dropin._stages import StagedSchedule
from bdp_ext.pruning import LevelPruner, Schedule
from bdp_ext.pruning.balance import CapsExpression

LEVELS = ("train", "valid")
SELECT = {
    "low-low": ("lowest", "lowest"),
    "low-high": ("lowest", "highest"),
    "high-low": ("highest", "lowest"),
    "high-high": ("highest", "highest"),
    "random": ("random", "random"),
}
PRUNE = 0.3


@dataclass(frozen=True)
class Options:
    """The keyword options of `bdp_ext.prune` that make schedules and pruners."""

    epochs: int | Sequence[int]
    unit: str
    level: str
    interval: int | None
    prune: tuple[float | None, float | None]
    keep: tuple[float | None, float | None]
    schedule: str
    warmup: int | tuple[int, int]
    select: str
    balance: str | CapsExpression
    min_per_class: int
    seed: int
    labels: tuple[Any, Any]
    indices: tuple[Any, Any]
    valid: tuple[Any, Sequence[int]] | None

    def levels(
        self, train_queue: DataLoader[Any], valid_queue: DataLoader[Any] | None
    ) -> dict[str, Level]:
        """ "train" and, unless one loader of one level was given, "valid".

        Raises:
            ValueError: an option or a data set that cannot be used.
        """
        self.check()
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
            levels["valid"] = SharedLevel("valid", labels, members, second)
            levels["valid"].set_pruner(self._pruner("valid", labels[members], steps))
        return levels

    def check(self) -> None:
        """Refuse what is wrong whatever the loaders are.

        Raises:
            ValueError: an option that is not one of its choices.
        """
        if self.unit not in UNITS:
            raise ValueError(
                f"bdp_ext.prune: unit must be one of {', '.join(UNITS)}, got {self.unit!r}."
            )
        if self.level not in ("both", *LEVELS):
            raise ValueError(
                f"bdp_ext.prune: level must be 'both', 'train' or 'valid', got {self.level!r}."
            )
        if self.select not in SELECT:
            raise ValueError(
                f"bdp_ext.prune: select must be one of {', '.join(SELECT)}, got {self.select!r}."
            )

    def stages(self, steps: int) -> tuple[int, ...]:
        """Epochs of each stage; with unit="step" the user counts in steps of which `steps` make an
        epoch.

        Raises:
            ValueError: fewer than two epochs.
        """
        given = (self.epochs,) if isinstance(self.epochs, int) else tuple(self.epochs)
        stages = tuple(self._in_epochs(int(stage), steps) for stage in given)
        if not stages or min(stages) < 2:
            steps_too = f" ({steps} steps make one)" if self.unit == "step" else ""
            raise ValueError(
                f"bdp_ext.prune: epochs={self.epochs} leaves a search of fewer than two "
                f"epochs{steps_too}, in which no variance of errors can be known; search longer."
            )
        return stages

    def stage_ends(self, steps: int) -> tuple[int, ...]:
        """The epochs after which a new model comes."""
        stages = self.stages(steps)
        return tuple(sum(stages[: i + 1]) for i in range(len(stages) - 1))

    def level_schedule(self, name: str, stages: tuple[int, ...], steps: int) -> Schedule:
        """The schedule of "train" or "valid".

        Raises:
            ValueError: an interval longer than the search, or a share outside its range.
        """
        which = LEVELS.index(name)
        shortest = min(stages)
        interval = max(2, min(5, shortest // 4))
        if self.interval is not None:
            interval = self._in_epochs(self.interval, steps)
            if interval >= shortest:
                raise ValueError(
                    f"bdp_ext.prune: interval={self.interval} is not shorter than the search "
                    f"(or a stage of it) of {self.epochs} {self.unit}s, so nothing would ever be "
                    "pruned; take a shorter interval."
                )
        elif shortest == 2:
            raise ValueError(
                "bdp_ext.prune: a search (or stage) of two epochs ends with its first pruning; "
                "take three epochs or more."
            )
        prune, keep = self.prune[which], self.keep[which]
        if prune is None and keep is None:
            prune = PRUNE
        warmup = self.warmup if isinstance(self.warmup, int) else self.warmup[which]
        warmup = self._in_epochs(warmup, steps)
        total = sum(stages)
        try:
            if len(stages) == 1:
                return Schedule(total, interval, prune, keep, self.schedule, warmup)
            return StagedSchedule(
                total, interval, prune, keep, self.schedule, warmup, stages=stages
            )
        except ValueError as error:
            raise ValueError(f"bdp_ext.prune: the {name} level: {error}") from error

    def _of_loader(self, name: str, loader: DataLoader[Any], given: Any, steps: int) -> Level:
        labels = labels_of(loader.dataset, given, name)
        members, known = members_of(loader, self.indices[LEVELS.index(name)], name)
        level = Level(name, labels, members, known)
        level.set_pruner(self._pruner(name, labels[members], steps))
        return level

    def _pruner(self, name: str, labels: Tensor, steps: int) -> LevelPruner | None:
        """A pruner for a level's samples [n], when it is to be pruned."""
        if self.level not in ("both", name):
            return None
        which = LEVELS.index(name)
        return LevelPruner(
            labels,
            self.level_schedule(name, self.stages(steps), steps),
            criterion=SELECT[self.select][which],
            balance=self.balance,
            min_per_class=self.min_per_class,
            seed=self.seed + which,
        )

    def _in_epochs(self, given: int, steps: int) -> int:
        return given // steps if self.unit == "step" else given


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
