"""What hangs on the user's criterion or model: it notes forward passes, and which of them a
backward pass reached. It changes no tensor."""

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

WARN_UNMATCHED = 100
"""Forward passes before the first batch is drawn, after which the user is told."""

log = logging.getLogger("bdp_ext")


class PendingMatch(NamedTuple):
    """How to find the batch of a forward pass later: which of `candidates` does `match` say that
    `key` is of? On a GPU the key is copied on the side, and is there after `copied`."""

    candidates: tuple[DrawnBatch, ...]
    key: Tensor
    match: Match
    copied: torch.cuda.Event | None

    def find(self) -> DrawnBatch | None:
        """The batch; None when no batch drawn lately fits."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.match(self.candidates, self.key)


class ForwardPass(NamedTuple):
    """A forward pass: its number, its batch, and its logits [B, C], detached."""

    order: int
    of: DrawnBatch | PendingMatch
    logits: Tensor

    def batch(self) -> DrawnBatch | None:
        """Its batch; None when no batch drawn lately fits."""
        found = self.of.find() if isinstance(self.of, PendingMatch) else self.of
        if found is not None:
            found.check()
        return found


class ForwardLog:
    """The forward passes that hooks have seen and a backward pass has reached.

    Attributes:
        recent: the batches drawn lately.
        calls: how often a hooked module was called, in any mode; the number of the newest pass.
        reached: the passes that count, in no order, perhaps more than once.
    """

    def __init__(self) -> None:
        self.recent = RecentBatches()
        self.calls = 0
        self.reached: list[ForwardPass] = []
        self._newest: tuple[Tensor, Tensor] | None = None  # logits, and the criterion's target
        self._unmatched = 0

    def take(self) -> list[ForwardPass]:
        """The forward passes that count, in their order; they are then the caller's."""
        reached, self.reached = self.reached, []
        return sorted(reached, key=lambda noted: noted.order)

    def note(self, logits: Tensor, of: DrawnBatch | PendingMatch) -> None:
        """Have autograd say when a backward pass reaches these logits."""
        if isinstance(of, DrawnBatch):
            of.check()
        noted = ForwardPass(self.calls, of, logits.detach())
        logits.register_hook(partial(self._reach, noted))

    def check_target(self, logits: Tensor, target: Tensor) -> None:
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

    def match_later(self, key: Tensor, match: Match) -> PendingMatch | None:
        """A batch that is to be found later; None: none has been drawn so far."""
        candidates = self.recent.snapshot()
        if not candidates:
            self._unmatched += 1
            if self._unmatched == WARN_UNMATCHED:
                log.warning(
                    "bdp_ext.prune: %d forward passes and not one batch of the loaders that it "
                    "returned, so nothing is scored; let the loop use those, with iterators made "
                    "after the call.",
                    WARN_UNMATCHED,
                )
            return None
        copied = None
        if key.is_cuda:
            key = key.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        return PendingMatch(candidates, key, match, copied)

    def _reach(self, noted: ForwardPass, gradient: Tensor) -> None:
        self.reached.append(noted)


class Hook:
    """A forward hook that survives `copy.deepcopy` of its module (and still reports to the same
    log), and is left out when the module is pickled.

    Attributes:
        kind: of module that it hangs on.
        forward_log: to be noted by; gives None when it, or the training queue, is gone.
        begun: whether an epoch is over.
        over: whether the loop may be done with the loaders, or has been told that it needs them.
    """

    kind = "module"

    def __init__(self, forward_log: ForwardLog) -> None:
        self._log = weakref.ref(forward_log)
        self.forward_log: Callable[[], ForwardLog | None] = self._log
        self.begun = self.over = False

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        forward_log = self.forward_log()
        if forward_log is None:
            self._tell_loaders_gone(args, kwargs)
            return
        forward_log.calls += 1
        if torch.is_grad_enabled():
            self.note(forward_log, _tensors([*args, *kwargs.values()]), output)

    def note(self, forward_log: ForwardLog, given: list[Tensor], output: Any) -> None:
        """Note a call with gradients.

        Args:
            given: all tensors among its arguments.
        """
        raise NotImplementedError

    def follow(self, queue: object) -> None:
        """Note passes as long as this object of the training queue is there."""
        self.forward_log = self._log
        self._queue = weakref.ref(queue, self._lose)

    def _lose(self, queue: Any) -> None:
        self.forward_log = _nothing

    def _tell_loaders_gone(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The module was called, and the loaders are gone."""
        if self.over or not torch.is_grad_enabled():
            return
        if any(tensor.requires_grad for tensor in _tensors([*args, kwargs])):
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


class CriterionHook(Hook):
    """Notes the logits and the batch of a criterion's call."""

    kind = "criterion"

    def note(self, forward_log: ForwardLog, given: list[Tensor], output: Any) -> None:
        found = _logits_and_target(given)
        if found is None:
            return
        logits, target = found
        of = forward_log.recent.by_target(target) or forward_log.match_later(target, same_labels)
        if of is not None:
            forward_log.check_target(logits, target)
            forward_log.note(logits, of)


class ModelHook(Hook):
    """Notes the logits and the batch of a model's call.

    Args:
        select: which of the model's outputs are the logits; None: the only matrix.
    """

    kind = "model"

    def __init__(self, forward_log: ForwardLog, select: Select) -> None:
        super().__init__(forward_log)
        self._select = select

    def note(self, forward_log: ForwardLog, given: list[Tensor], output: Any) -> None:
        inputs = next((tensor for tensor in given if tensor.is_floating_point()), None)
        if inputs is None:
            return
        logits = self._logits(output)
        if not logits.requires_grad:
            return
        _check_shape(logits)
        of = forward_log.recent.by_input(inputs)
        noted = of or forward_log.match_later(fingerprint(inputs), same_input)
        if noted is not None:
            forward_log.note(logits, noted)

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
