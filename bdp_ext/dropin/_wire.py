"""Ties levels, look-alike loaders, clock and hooks together."""

from typing import Any

from torch.utils.data import DataLoader

from bdp_ext.dropin._batch import Finder
from bdp_ext.dropin._build import Options
from bdp_ext.dropin._clock import Clock, Pass
from bdp_ext.dropin._drawn import Drawn
from bdp_ext.dropin._hooks import Watch
from bdp_ext.dropin._level import Level
from bdp_ext.dropin._loader import Draws, LookAlike, look_alike
from bdp_ext.dropin._pairs import PairCollate, Pairs, SharedLevel
from bdp_ext.dropin._pruner import DropInPruner


class _Valid(Draws):
    """The validation queue: its batches are remembered."""

    def __init__(self, pruner: DropInPruner, watch: Watch, level: Level, inputs: bool) -> None:
        self._pruner = pruner
        self._remember = watch.recent.add
        self._level = level.name
        self._finder = Finder(level, inputs=inputs)

    def tick(self, asked: bool) -> None:
        if not asked:  # its own draws are no time
            self._pruner.tick(asked=False)

    def drew(self, batch: Any, index: list[Any], of: Pass) -> Any:
        self._remember(Drawn(self._level, index, *self._finder.find(batch, index), None))
        return batch


class _Train(_Valid):
    """The training queue: its batches are remembered, and it keeps the time."""

    def open(self) -> Pass:
        return self._pruner.open()

    def tick(self, asked: bool) -> None:
        self._pruner.tick(asked)

    def drew(self, batch: Any, index: list[Any], of: Pass) -> Any:
        self._remember(Drawn(self._level, index, *self._finder.find(batch, index), of))
        return batch


class _Both(_Train):
    """One queue of both levels, in disguise: a batch comes with the samples of its second half."""

    def __init__(
        self, pruner: DropInPruner, watch: Watch, level: Level, inputs: bool, second: SharedLevel
    ) -> None:
        super().__init__(pruner, watch, level, inputs)
        self._second = Finder(second, last=True, inputs=inputs)

    def drew(self, batch: Any, index: list[Any], of: Pass) -> Any:
        pair, second = batch
        super().drew(pair, index, of)
        self._remember(Drawn("valid", second, *self._second.find(pair, second), None))
        return pair


def wire(
    options: Options,
    train_queue: DataLoader[Any],
    valid_queue: DataLoader[Any] | None,
    kind: str,
    watch: Watch,
) -> tuple[LookAlike, LookAlike | None, DropInPruner]:
    """The look-alikes of the user's loaders, and their handle.

    Args:
        kind: what is hooked: "criterion", "model" or (nothing) "observe".
    """
    levels = options.levels(train_queue, valid_queue)
    second = levels.get("valid")
    inside: dict[str, Any] = {}
    if isinstance(second, SharedLevel):
        inside["dataset"] = Pairs(train_queue.dataset, second.dataset, second.reader)
        inside["collate_fn"] = PairCollate(train_queue.collate_fn)
    train = look_alike(train_queue, levels["train"], inside)
    clock = Clock(options.unit, train._recorder.__len__)
    pruner = DropInPruner(levels, clock, watch, kind, options.stage_ends(len(train_queue)))

    inputs = kind == "model"
    draws: Draws
    if isinstance(second, SharedLevel):
        draws = _Both(pruner, watch, levels["train"], inputs, second)
    elif kind == "observe":
        draws = Draws()
    else:
        draws = _Train(pruner, watch, levels["train"], inputs)
    train.tell(draws, pruner)
    if valid_queue is None or second is None:
        return train, None, pruner
    valid = look_alike(valid_queue, second)
    valid.tell(Draws() if kind == "observe" else _Valid(pruner, watch, second, inputs), pruner)
    return train, valid, pruner
