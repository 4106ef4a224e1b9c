"""Ties levels, look-alike loaders, clock and hooks together."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch.utils.data import DataLoader

from bdp_ext.dropin._batch import Finder
from bdp_ext.dropin._build import Options
from bdp_ext.dropin._clock import Clock, Pass
from bdp_ext.dropin._hooks import CriterionHook, Hook, ModelHook, Select, Watch
from bdp_ext.dropin._level import Level
from bdp_ext.dropin._loader import Draws, LookAlike, look_alike
from bdp_ext.dropin._pairs import PairCollate, Pairs, SharedLevel
from bdp_ext.dropin._pruner import DropInPruner


class _Valid(Finder):
    """The validation queue: its batches are remembered."""

    def __init__(self, pruner: DropInPruner, watch: Watch, level: Level, inputs: bool) -> None:
        super().__init__(level, watch.recent, inputs=inputs)
        self._pruner = pruner

    def open(self) -> Pass:
        return self._pruner.open_valid()

    def ended(self) -> None:
        self._pruner.tick(asked=False)


class _Train(_Valid):
    """The training queue: its batches are remembered, and it keeps the time."""

    def __init__(self, pruner: DropInPruner, watch: Watch, level: Level, inputs: bool) -> None:
        super().__init__(pruner, watch, level, inputs)
        self.asked = pruner.asked

    def open(self) -> Pass:
        return self._pruner.open()


class _Both(_Train):
    """One queue of both levels, in disguise: a batch comes with the samples of its second half."""

    def __init__(
        self, pruner: DropInPruner, watch: Watch, level: Level, inputs: bool, second: SharedLevel
    ) -> None:
        super().__init__(pruner, watch, level, inputs)
        self._second = Finder(second, watch.recent, last=True, inputs=inputs)
        self._untimed = Pass()

    def drew(self, batch: Any, index: Sequence[Any], of: Pass) -> Any:
        pair, second = batch
        super().drew(pair, index, of)
        return self._second.drew(pair, second, self._untimed)


def wire(
    options: Options,
    train_queue: DataLoader[Any],
    valid_queue: DataLoader[Any] | None,
    kind: str,
    select: Select,
) -> tuple[LookAlike, LookAlike | None, DropInPruner]:
    """The look-alikes of the user's loaders, and their handle.

    Args:
        kind: what is hooked: "criterion", "model" or (nothing) "observe".
        select: which of a model's outputs are the logits.
    """
    levels = options.levels(train_queue, valid_queue)
    clock = Clock(options.unit, train_queue.__len__)
    watch = Watch()
    hook = ModelHook(watch, select) if kind == "model" else CriterionHook(watch)
    ends = options.stage_ends(len(train_queue))
    attach = partial(_attach, clock, watch, hook, kind)
    pruner = DropInPruner(levels, clock, watch, hook, kind, ends, attach)
    return *attach(pruner, train_queue, valid_queue), pruner


def _attach(
    clock: Clock,
    watch: Watch,
    hook: Hook,
    kind: str,
    pruner: DropInPruner,
    train_queue: DataLoader[Any],
    valid_queue: DataLoader[Any] | None,
) -> tuple[LookAlike, LookAlike | None]:
    """Look-alikes of loaders over a handle's levels, which report to it."""
    levels = pruner.levels
    second = levels.get("valid")
    inside: dict[str, Any] = {}
    if isinstance(second, SharedLevel):
        inside["dataset"] = Pairs(train_queue.dataset, second.dataset, second.reader)
        inside["collate_fn"] = PairCollate(train_queue.collate_fn)
    train = look_alike(train_queue, levels["train"], inside)
    clock.follow(train._recorder.__len__)

    inputs = kind == "model"
    draws: Draws
    if isinstance(second, SharedLevel):
        draws = _Both(pruner, watch, levels["train"], inputs, second)
    elif kind == "observe":
        draws = Draws()
    else:
        draws = _Train(pruner, watch, levels["train"], inputs)
    train.tell(draws, pruner)
    hook.follow(draws)
    if valid_queue is None or second is None:
        return train, None
    valid = look_alike(valid_queue, second)
    valid.tell(Draws() if kind == "observe" else _Valid(pruner, watch, second, inputs), pruner)
    return train, valid
