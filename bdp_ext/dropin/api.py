"""The drop-in: `prune` and `observe`.

import bdp_ext
train_queue, valid_queue = bdp_ext.prune(train_queue, valid_queue, criterion, epochs=args.epochs)
"""

import logging
import weakref
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.data import DataLoader

from bdp_ext.dropin.epoch_clock import EpochClock
from bdp_ext.dropin.hooks import CriterionHook, Hook, ModelHook, Select
from bdp_ext.dropin.loaders import PrunedDataLoader
from bdp_ext.dropin.options import Options, check_queues
from bdp_ext.dropin.pruner import DropInPruner
from bdp_ext.pruning.balance import CapsExpression

AGAIN = (
    "bdp_ext.prune: it was given the same loaders before, in a search that is not over, and now "
    "begins anew with all samples; call it once, before the loop, let the loop use the loaders "
    "that it returns, and call train_queue.pruner.watch(criterion) for a criterion built later."
)

_newest: weakref.ref[DropInPruner] | None = None
_given: weakref.WeakKeyDictionary[DataLoader[Any], Hook] = weakref.WeakKeyDictionary()
"""The training queues, as they were given, and how far the newest search with each has come."""

log = logging.getLogger("bdp_ext")


def prune(
    train_queue: DataLoader[Any],
    valid_queue: DataLoader[Any] | None = None,
    loss: nn.Module | Sequence[nn.Module] | None = None,
    *,
    epochs: int | Sequence[int],
    unit: str = "epoch",
    level: str = "both",
    model: nn.Module | None = None,
    logits: Select = None,
    interval: int | None = None,
    prune_train: float | None = None,
    prune_valid: float | None = None,
    keep_train: float | None = None,
    keep_valid: float | None = None,
    schedule: str = "geometric",
    warmup: int | tuple[int, int] = 0,
    alpha_start: int = 0,
    criterion: str = "low-high",
    balance: str | CapsExpression = "paper",
    min_per_class: int = 1,
    seed: int = 0,
    labels: tuple[Any, Any] | None = None,
    indices: tuple[Any, Any] | None = None,
    valid: tuple[Any, Sequence[int]] | None = None,
) -> Any:
    """Prune both levels of a search while its loop runs, from the logits it computes anyway.

    Returns loaders to be used in place of the given ones: same class, `dataset`, workers, collate;
    `len()` of the live samples. Nothing else is touched: the given loaders stay as they are, no
    generator is seeded, and with `prune_train=0, prune_valid=0` the loop computes what it did.
    A forward pass counts when a backward pass reaches its logits, and only the first one of an
    epoch for each sample. When an epoch ends: see `docs/drop-in.md`.

    Args:
        train_queue: draws the samples that update the weights; map-style data set.
        valid_queue: draws those that update the architecture. None: `train_queue` yields both
            levels as (input, label, input, label), or `level="train"`.
        loss: the module(s) that the loop calls with (logits, labels), its criterion.
        epochs: of the search. Several: of each stage of a search with a new model per stage; live
            samples carry over, scores do not.
        unit: "epoch"; "step": `epochs`, `interval`, `warmup` and `alpha_start` are counted in
            steps, of which `len(train_queue)` make an epoch; "manual": the loop calls
            `pruner.end_epoch()`.
        level: "both", "train" or "valid": which are pruned.
        model: instead of `loss`, for losses called as functions: the module called with inputs
            as the loaders yield them.
        logits: which part of the model's output holds the logits: an index, a key, or a function.
        interval: epochs between prunings, and the window of the variance; by default a quarter of
            the search (of its shortest stage), within 2 to 5.
        prune_train, prune_valid: share that each pruning takes (default 0.3), or
        keep_train, keep_valid: share that is left at the end.
        schedule: shares of the current size ("geometric") or of the initial one ("linear").
        warmup: epochs of each stage before its first pruning, or (train, valid).
        alpha_start: epochs of each stage before the first alpha step.
        criterion: which variance goes first on either level: "low-high" and so on, or "random".
        balance: caps on what a class may lose: "paper", "none" or an expression (`CapsExpression`).
        min_per_class: samples that every class keeps.
        seed: of `criterion="random"`; no other generator is used.
        labels: (train, valid) class of every sample of either data set, where it does not keep
            them.
        indices: (train, valid) samples that either loader draws, where its sampler does not tell.
        valid: (data set, indices) of the second half of the items, for one loader that yields both.

    Returns:
        (train_queue, valid_queue), or train_queue when there is one. Each has `pruner`
        (`DropInPruner`: `report()`, `live_indices`, `adopt()`, `state_dict()`, ...) and `unpruned`,
        the loader that was given. Loaders that are pruned already come back as they are, and the
        criterion (or model) is watched too: the call may stand where a stage builds a new one.

    Raises:
        TypeError: not a loader, or not a module.
        ValueError: what cannot be pruned, with what to do about it.
    """
    modules = _modules(loss, model)
    if isinstance(train_queue, PrunedDataLoader):
        train_queue.pruner.watch(*modules)
        return train_queue if valid_queue is None else (train_queue, valid_queue)
    if isinstance(valid_queue, nn.Module):
        raise TypeError(
            "bdp_ext.prune: the second argument is the validation queue; with one loader pass "
            "loss=... by name."
        )
    kind = "model" if model is not None else "criterion" if modules else "observe"
    unit = "manual" if kind == "observe" else unit
    options = Options(
        epochs=epochs,
        unit=unit,
        level=level,
        interval=interval,
        prune=(prune_train, prune_valid),
        keep=(keep_train, keep_valid),
        schedule=schedule,
        warmup=warmup,
        alpha_start=alpha_start,
        criterion=criterion,
        balance=balance,
        min_per_class=min_per_class,
        seed=seed,
        labels=labels or (None, None),
        indices=indices or (None, None),
        valid=valid,
    )
    check_queues(train_queue, valid_queue, level)
    levels = options.levels(train_queue, valid_queue)
    hook = ModelHook(logits) if kind == "model" else CriterionHook()
    pruner = DropInPruner(levels, EpochClock(unit, train_queue.__len__), hook, kind)
    pruner.watch(*modules)
    before, _given[train_queue] = _given.get(train_queue), pruner._hook
    if before is not None and before.begun and not before.over:
        log.warning(AGAIN)
    global _newest
    _newest = weakref.ref(pruner)
    return pruner.attach(train_queue, valid_queue)


def observe(level: str, index: Tensor, logits: Tensor, target: Tensor) -> None:
    """Score a batch oneself, with the newest pruner that `bdp_ext.prune` made; for loops that no
    hook fits. The end of an epoch is then `train_queue.pruner.end_epoch()`.

    Args:
        level: "train" or "valid".
        index: [B] int64, the samples as the level's data set numbers them.
        logits: [B, C] floating. Read detached.
        target: [B] int64, one class per sample.

    Raises:
        RuntimeError: `bdp_ext.prune` has not been called.
        ValueError: see `DropInPruner.observe`, which does the same for a pruner of your choice.
    """
    pruner = _newest() if _newest is not None else None
    if pruner is None:
        raise RuntimeError(
            "bdp_ext.observe: there is no pruner; call bdp_ext.prune(train_queue, valid_queue, "
            "epochs=...) first and use the loaders it returns."
        )
    pruner.observe(level, index, logits, target)


def _modules(loss: Any, model: Any) -> list[nn.Module]:
    if loss is not None and model is not None:
        raise TypeError("bdp_ext.prune: give loss= or model=, not both.")
    given = loss if loss is not None else model
    modules = [] if given is None else [given] if isinstance(given, nn.Module) else given
    if not isinstance(modules, (list, tuple)) or not all(isinstance(m, nn.Module) for m in modules):
        raise TypeError(
            "bdp_ext.prune: the criterion must be a module such as nn.CrossEntropyLoss(), which "
            "can be hooked; where the loss is a function, pass model= instead."
        )
    return list(modules)
