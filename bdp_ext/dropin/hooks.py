"""What hangs on the user's criterion or model: it notes forward passes, and which of them a
backward pass reached. It changes no number."""

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bdp_ext.dropin.recent_batches import (
    DrawnBatch,
    RecentBatches,
    fingerprint,
    same_input,
    same_labels,
)

LOADERS_GONE = (
    "bdp_ext: the loaders that bdp_ext.prune returned are gone in the middle of the search, and "
    "the %s is still in use: nothing is scored or pruned any more; where the loop builds its "
    "loaders anew, keep pruner = train_queue.pruner from the start and then call "
    "train_queue, valid_queue = pruner.adopt(train_queue, valid_queue)."
)

Select = int | str | Callable[[Any], Tensor] | None
Match = Callable[[Sequence[DrawnBatch], Tensor], DrawnBatch | None]
Find = Callable[[], DrawnBatch | None]

WARN_UNMATCHED = 100
"""Forward passes before the first batch is drawn, after which the user is told."""

log = logging.getLogger("bdp_ext")


class ForwardPass(NamedTuple):
    """A forward pass: its number, what finds its batch (None when no batch drawn lately fits), and
    its logits [B, C], detached."""

    order: int
    find: Find
    logits: Tensor


class Hook:
    """A forward hook that notes which passes a backward pass reaches. It survives `copy.deepcopy`
    of its module (and is the same one), and is left out when the module is pickled.

    Attributes:
        kind: of module that it hangs on.
        recent: the batches drawn lately.
        calls: how often a hooked module was called, in any mode; the number of the newest pass.
        reached: the passes that count, in no order, perhaps more than once.
        begun: whether an epoch is over.
        over: whether the loop may be done with the loaders, or has been told that it needs them.
    """

    kind = "module"

    def __init__(self) -> None:
        self.recent = RecentBatches()
        self.calls = 0
        self.reached: list[ForwardPass] = []
        self.begun = self.over = False
        self._unmatched = 0
        self._queue: Callable[[], object] = weakref.ref(self)

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = _tensors([*args, *kwargs.values()])
        if self._queue() is None:
            self._tell_loaders_gone(given)
            return
        self.calls += 1
        if torch.is_grad_enabled():
            self.note(given, output)

    def note(self, given: list[Tensor], output: Any) -> None:
        """Note a call with gradients.

        Args:
            given: all tensors among its arguments.
        """
        raise NotImplementedError

    def await_backward(
        self, logits: Tensor, batch: DrawnBatch | None, key: Tensor, match: Match
    ) -> None:
        """Have autograd say when a backward pass reaches these logits.

        Args:
            batch: theirs; None: it is the one of those drawn lately that `match` says `key` is of,
                which a GPU is not waited for to tell.
        """
        if batch is not None:
            find: Find = partial(_the_same, batch)
        else:  # the loop may use its tensor again
            find = partial(_later, match, self.recent.snapshot(), key.detach().clone())
        noted = ForwardPass(self.calls, find, logits.detach())
        logits.register_hook(partial(self._reach, noted))

    def _reach(self, noted: ForwardPass, gradient: Tensor) -> None:
        self.reached.append(noted)

    def take(self) -> list[ForwardPass]:
        """The forward passes that count, in their order; they are then the caller's."""
        reached, self.reached = self.reached, []
        return sorted(reached, key=lambda noted: noted.order)

    def none_drawn(self) -> bool:
        """Whether the loaders have drawn no batch so far."""
        if self.recent.snapshot():
            return False
        self._unmatched += 1
        if self._unmatched == WARN_UNMATCHED:
            log.warning(
                "bdp_ext.prune: %d forward passes and not one batch of the loaders that it "
                "returned, so nothing is scored; let the loop use those, with iterators made "
                "after the call.",
                WARN_UNMATCHED,
            )
        return True

    def follow(self, queue: object) -> None:
        """Note passes as long as this object of the training queue is there."""
        self._queue = weakref.ref(queue)

    def _tell_loaders_gone(self, given: list[Tensor]) -> None:
        """The module was called, and the loaders are gone."""
        if self.over or not torch.is_grad_enabled():
            return
        if any(tensor.requires_grad for tensor in given):
            self.over = True
            log.warning(LOADERS_GONE, self.kind)

    def __deepcopy__(self, memo: Any) -> "Hook":
        return self

    def __reduce__(self) -> Any:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _nothing


def _nothing(*_: Any) -> None:
    return None


def _the_same(batch: DrawnBatch) -> DrawnBatch:
    return batch


def _later(match: Match, candidates: Sequence[DrawnBatch], key: Tensor) -> DrawnBatch | None:
    return match(candidates, key.cpu())


class CriterionHook(Hook):
    """Notes the logits and the batch of a criterion's call."""

    kind = "criterion"
    _newest: tuple[Tensor, Tensor] | None = None  # logits and target

    def note(self, given: list[Tensor], output: Any) -> None:
        found = _logits_and_target(given)
        if found is None or self.none_drawn():
            return
        logits, target = found
        self._check_target(logits, target)
        self.await_backward(logits, self.recent.by_target(target), target, same_labels)

    def _check_target(self, logits: Tensor, target: Tensor) -> None:
        """Refuse a second target for the logits of the last pass."""
        before, self._newest = self._newest, (logits.detach(), target)
        if before is None or before[0].data_ptr() != logits.data_ptr() or before[1] is target:
            return
        if before[1].shape == target.shape and torch.equal(before[1].to(target.device), target):
            return
        raise RuntimeError(
            "bdp_ext.prune: the criterion was called for the same logits with two different "
            "targets (mixup or cutmix), whose error belongs to no single sample; train without "
            "mixing, or score plain logits with bdp_ext.observe(level, index, logits, target)."
        )


class ModelHook(Hook):
    """Notes the logits and the batch of a model's call.

    Args:
        select: which of the model's outputs are the logits; None: the only matrix.
    """

    kind = "model"

    def __init__(self, select: Select) -> None:
        super().__init__()
        self._select = select

    def note(self, given: list[Tensor], output: Any) -> None:
        inputs = next((tensor for tensor in given if tensor.is_floating_point()), None)
        if inputs is None:
            return
        logits = self._logits(output)
        if not logits.requires_grad:
            return
        _check_shape(logits)
        if not self.none_drawn():
            self.await_backward(logits, None, fingerprint(inputs), same_input)

    def _logits(self, output: Any) -> Tensor:
        if callable(self._select):
            return self._select(output)
        if self._select is not None:
            selected: Tensor = output[self._select]
            return selected
        found = [t for t in _tensors([output]) if t.is_floating_point() and t.dim() == 2]
        if len(found) != 1:
            raise RuntimeError(
                f"bdp_ext.prune: the model returned {len(found)} tensors that may be logits; say "
                "which with logits=, an index or key of its output or a function of it."
            )
        return found[0]


def install_hook(hook: Hook, module: nn.Module) -> None:
    """Hook a module, once."""
    there = [one for one in module._forward_hooks.values() if isinstance(one, Hook)]
    for other in there:
        other.over |= other is not hook  # the module is searched with anew
    if hook not in there:
        module.register_forward_hook(hook, with_kwargs=True)


def _logits_and_target(given: Sequence[Tensor]) -> tuple[Tensor, Tensor] | None:
    """The arguments of a criterion that an error is of; None where nothing can go backward."""
    logits = target = None
    for tensor in given:
        if not tensor.is_floating_point():
            target = tensor if target is None else target
        elif logits is None and tensor.requires_grad and tensor.dim() >= 2:
            logits = tensor
    if logits is None:
        return None
    if target is None or target.numel() != logits.shape[0]:
        raise RuntimeError(
            "bdp_ext.prune: the criterion was called without one class per sample (soft or "
            "mixed labels?), and an error needs the class; score plain logits yourself with "
            "bdp_ext.observe(level, index, logits, target)."
        )
    _check_shape(logits)
    return logits, target


def _check_shape(logits: Tensor) -> None:
    if logits.dim() != 2 and logits.numel() != logits.shape[0] * logits.shape[1]:
        raise RuntimeError(
            f"bdp_ext.prune: logits must be [batch, classes], got {list(logits.shape)}; score "
            "them yourself with bdp_ext.observe(level, index, logits, target)."
        )


def _tensors(values: Iterable[Any]) -> list[Tensor]:
    found = []
    for value in values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Mapping):
            found += _tensors(value.values())
        elif isinstance(value, (list, tuple)):
            found += _tensors(value)
    return found
