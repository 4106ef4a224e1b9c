"""What is hung on the user's criterion or model: it notes forward passes, and which of them a
backward pass reached. It changes no tensor."""

import logging
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bdp_ext.dropin import _native
from bdp_ext.dropin._drawn import Drawn, Recent, fingerprint, same_input, same_labels
from bdp_ext.dropin._native import ScoredPass, Turn, hook_node

LOST = (
    "bdp_ext: the loaders that bdp_ext.prune returned are gone in the middle of the search, and "
    "the %s is still in use: nothing is scored or pruned any more; where the loop builds its "
    "loaders anew, keep pruner = train_queue.pruner from the start and then call "
    "train_queue, valid_queue = pruner.adopt(train_queue, valid_queue)."
)

Select = int | str | Callable[[Any], Tensor] | None
Match = Callable[[tuple[Drawn, ...], Tensor], Drawn | None]

STRANGERS = 100
"""Forward passes before the first batch is drawn, after which the user is told."""

log = logging.getLogger("bdp_ext")


class Unknown(NamedTuple):
    """How to find the batch of a forward pass later: which of `candidates` does `match` say that
    `key` is of? On a GPU the key is copied on the side, and is there after `copied`."""

    candidates: tuple[Drawn, ...]
    key: Tensor
    match: Match
    copied: torch.cuda.Event | None

    def find(self) -> Drawn | None:
        """The batch; None when no batch drawn lately fits."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.match(self.candidates, self.key)


class UnscoredPass(NamedTuple):
    """A forward pass: its number, its batch, and its logits [B, C], detached."""

    order: int
    of: Drawn | Unknown
    logits: Tensor

    def found(self) -> "UnscoredPass | None":
        """The same of a batch that is known; None when no batch drawn lately fits."""
        if not isinstance(self.of, Unknown):
            return self
        drawn = self.of.find()
        if drawn is None:
            return None
        drawn.check()
        return self._replace(of=drawn)

    @property
    def turn(self) -> Turn:
        """That of its batch, which is known."""
        assert isinstance(self.of, Drawn)
        return self.of.turn

    @property
    def address(self) -> int:
        """Where its logits lie."""
        return self.logits.data_ptr()


class Watch(_native.Watch):
    """The forward passes that hooks have seen and a backward pass has reached.

    Attributes:
        recent: the batches drawn lately.
    """

    def __init__(self) -> None:
        self.recent = Recent()
        self.levels = self.recent.levels
        self.reached = []
        self._strangers = 0

    def take(self) -> list[ScoredPass | UnscoredPass]:
        """The forward passes that count, in their order; they are then the caller's."""
        reached = sorted(self.reached, key=attrgetter("order"))
        self.reached.clear()
        return reached

    def note(self, logits: Tensor, of: Drawn | Unknown) -> None:
        """Have autograd say when a backward pass reaches these logits."""
        if isinstance(of, Drawn):
            of.check()
        self.newest = noted = UnscoredPass(self.calls, of, logits.detach())
        hook = partial(self._reach, noted)
        if not hook_node(logits, hook):  # costs 6 us less
            logits.register_hook(hook)

    def unknown(self, key: Tensor, match: Match) -> Unknown | None:
        """A batch that is to be found later; None: none has been drawn so far."""
        candidates = self.recent.snapshot()
        if not candidates:
            self._strangers += 1
            if self._strangers == STRANGERS:
                log.warning(
                    "bdp_ext.prune: %d forward passes and not one batch of the loaders that it "
                    "returned, so nothing is scored; let the loop use those, with iterators made "
                    "after the call.",
                    STRANGERS,
                )
            return None
        copied = None
        if key.is_cuda:
            key = key.to("cpu", non_blocking=True)
            copied = torch.cuda.Event()
            copied.record()
        return Unknown(candidates, key, match, copied)

    def _reach(self, noted: UnscoredPass, gradient: Tensor) -> None:
        self.reached.append(noted)


class Hook:
    """A forward hook that survives `copy.deepcopy` of its module (and still reports to the same
    watch), and is left out when the module is pickled.

    Attributes:
        kind: of module that it hangs on.
        watch: to be noted by; None when it, or the training queue, is gone.
        begun: whether an epoch is over.
        over: whether the loop may be done with the loaders, or has been told that it needs them.
    """

    kind = "module"

    def __init__(self, watch: Watch) -> None:
        self._watch = weakref.ref(watch)
        self.watch: Callable[[], Watch | None] = self._watch
        self.begun = self.over = False

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        raise NotImplementedError

    def follow(self, queue: object) -> None:
        """Note passes as long as this object of the training queue is there."""
        self.watch = self._watch
        self._queue = weakref.ref(queue, self._lose)

    def _lose(self, queue: Any) -> None:
        self.watch = _nothing

    def tell_loss(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The module was called, and the loaders are gone."""
        if self.over or not torch.is_grad_enabled():
            return
        if any(tensor.requires_grad for tensor in _tensors([*args, kwargs])):
            self.over = True
            log.warning(LOST, self.kind)

    def __deepcopy__(self, memo: Any) -> "Hook":
        return self

    def __reduce__(self) -> Any:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _nothing


def _nothing(*_: Any) -> None:
    return None


class CriterionHook(_native.CriterionHook, Hook):
    """Notes the logits and the batch of a criterion's call."""

    kind = "criterion"

    def note(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        watch = self.watch()
        if watch is None:
            self.tell_loss(args, kwargs)
            return
        watch.calls += 1
        given = (*args, *kwargs.values()) if kwargs else args
        of: Drawn | Unknown | None = None
        if len(given) == 2:  # nearly always logits [B, C] and the labels [B] of a batch just drawn
            logits, target = given
            newest = watch.recent.newest(target)
            if newest is not None and _usual(logits, newest.rows):
                of = newest
        strange = of is None
        if of is None:
            found = _logits_and_target(given) if torch.is_grad_enabled() else None
            if found is None:
                return
            logits, target = found
            of = watch.recent.by_target(target) or watch.unknown(target, same_labels)
            if of is None:
                return
        if strange or watch.strange:
            if watch.newest is not None and watch.newest.address == logits.data_ptr():
                _refuse_other(watch.target, target)
            watch.strange = strange
        watch.target = target
        watch.note(logits, of)


def _usual(logits: Any, rows: int) -> bool:
    """Whether it is a matrix of so many logits' rows that a backward pass may reach."""
    if type(logits) is not Tensor or logits.grad_fn is None:
        return False
    shape = logits.shape
    return len(shape) == 2 and shape[0] == rows


class ModelHook(Hook):
    """Notes the logits and the batch of a model's call.

    Args:
        select: which of the model's outputs are the logits; None: the only matrix.
    """

    kind = "model"

    def __init__(self, watch: Watch, select: Select) -> None:
        super().__init__(watch)
        self._select = select

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        watch = self.watch()
        if watch is None:
            self.tell_loss(args, kwargs)
            return
        watch.calls += 1
        if not torch.is_grad_enabled():
            return
        given = _tensors([*args, *kwargs.values()])
        tensor = next((t for t in given if t.is_floating_point()), None)
        if tensor is None:
            return
        logits = self._logits(output)
        if not logits.requires_grad:
            return
        _check_shape(logits)
        of = watch.recent.by_input(tensor) or watch.unknown(fingerprint(tensor), same_input)
        if of is not None:
            watch.note(logits, of)

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


def hang(hook: Hook, module: nn.Module) -> None:
    """Hook a module, once."""
    there = [one for one in module._forward_hooks.values() if isinstance(one, Hook)]
    for other in there:
        other.over |= other is not hook  # the module is searched with anew
    if hook not in there:
        module.register_forward_hook(hook, with_kwargs=True)


def _logits_and_target(inputs: Sequence[Any]) -> tuple[Tensor, Tensor] | None:
    """The arguments of a criterion that an error is of; None where nothing can go backward."""
    logits = target = None
    for tensor in _tensors(inputs):
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


def _refuse_other(before: Tensor | None, target: Tensor) -> None:
    """Refuse a second target for the logits of the last pass."""
    if before is None or before is target:
        return
    if before.shape == target.shape and torch.equal(before.to(target.device), target):
        return
    raise RuntimeError(
        "bdp_ext.prune: the criterion was called for the same logits with two different "
        "targets (mixup or cutmix), whose error belongs to no single sample; train without "
        "mixing, or score plain logits with bdp_ext.observe(level, index, logits, target)."
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
