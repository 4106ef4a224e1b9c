"""What is hung on the user's criterion or model: it notes forward passes, and which of them a
backward pass reached. It changes no tensor."""

import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bdp_ext.dropin._drawn import Drawn, Recent, fingerprint, same_input, same_labels

Select = int | str | Callable[[Any], Tensor] | None
Match = Callable[[tuple[Drawn, ...], Tensor], Drawn | None]


class Unknown(NamedTuple):
    """How to find the batch of a forward pass later: which of `candidates` does `match` say that
    `key` is of?"""

    candidates: tuple[Drawn, ...]
    key: Tensor
    match: Match


class Forward:
    """One forward pass; called by autograd when a backward pass reaches its logits.

    Args:
        reached: where it puts itself then.
        order: the pass's number.
        logits: [B, C]; kept detached.
        of: the batch, or how to find it.
    """

    __slots__ = ("_reached", "_ready", "logits", "of", "order")

    def __init__(
        self, reached: list["Forward"], order: int, logits: Tensor, of: Drawn | Unknown
    ) -> None:
        self._reached: list[Forward] | None = reached
        self.order = order
        self.logits = logits.detach()
        self.of: Drawn | Unknown | None = of
        self._ready: Any = None

    def __call__(self, gradient: Tensor) -> None:
        reached, self._reached = self._reached, None
        if reached is None:
            return
        reached.append(self)
        if self.logits.is_cuda:  # copied on the side, with no wait
            self.logits = self.logits.to("cpu", non_blocking=True)
            if isinstance(self.of, Unknown):
                self.of = self.of._replace(key=self.of.key.to("cpu", non_blocking=True))
            self._ready = torch.cuda.Event()
            self._ready.record()

    def drawn(self) -> Drawn | None:
        """The batch this pass was of; None when no batch drawn lately fits."""
        if self._ready is not None:
            self._ready.synchronize()
        if isinstance(self.of, Unknown):
            candidates, key, match = self.of
            self.of = match(candidates, key.cpu())
        return self.of


class Watch:
    """The forward passes that hooks have seen and a backward pass has reached.

    Attributes:
        recent: the batches drawn lately.
        calls: how often a hooked module was called, in any mode.
        reached: forward passes to be scored, in no order.
    """

    def __init__(self, select: Select) -> None:
        self.recent = Recent()
        self.calls = 0
        self.reached: list[Forward] = []
        self._select = select
        self._last: tuple[Forward, Tensor] | None = None  # with its target

    def take(self) -> list[Forward]:
        """The forward passes to be scored, in their order; they are then the caller's."""
        reached = sorted(self.reached, key=attrgetter("order"))
        self.reached.clear()
        return reached

    def criterion(self, inputs: Sequence[Any]) -> None:
        """A criterion was called with these arguments."""
        self.calls += 1
        if not torch.is_grad_enabled():
            return
        drawn = None
        if len(inputs) == 2:  # nearly always: logits [B, C], labels [B]
            logits, target = inputs
            drawn = self.recent.newest(target)
        if drawn is None or not _usual(logits, drawn):
            found = _logits_and_target(inputs)
            if found is None:
                return
            logits, target = found
            drawn = self.recent.by_target(target)
        of = drawn or Unknown(self.recent.snapshot(), target, same_labels)
        if self._last is not None and self._last[0].logits.data_ptr() == logits.data_ptr():
            _refuse_other(self._last[1], target)
        self._last = self._note(logits, of), target

    def model(self, inputs: Sequence[Any], output: Any) -> None:
        """A model was called with these arguments and returned this."""
        self.calls += 1
        if not torch.is_grad_enabled():
            return
        tensor = next((t for t in _tensors(inputs) if t.is_floating_point()), None)
        if tensor is None:
            return
        logits = self._logits(output)
        if not logits.requires_grad:
            return
        drawn = self.recent.by_input(tensor)
        of = drawn or Unknown(self.recent.snapshot(), fingerprint(tensor), same_input)
        _check_shape(logits)
        self._note(logits, of)

    def _note(self, logits: Tensor, of: Drawn | Unknown) -> Forward:
        forward = Forward(self.reached, self.calls, logits, of)
        _call_when_reached(forward, logits)
        return forward

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


def _usual(logits: Any, of: Drawn) -> bool:
    """Whether these are a matrix of logits of this batch that a backward pass may reach."""
    if type(logits) is not Tensor or not logits.requires_grad:
        return False
    shape = logits.shape
    return len(shape) == 2 and shape[0] == len(of.index)


def _call_when_reached(forward: Forward, logits: Tensor) -> None:
    """`logits.register_hook(forward)`, without the handle to take it off again: 5 us instead of 11,
    in every pass of a search."""
    attach = getattr(logits.grad_fn, "_register_hook_dict", None)  # torch's own, and private
    if attach is None or logits._backward_hooks is not None or type(logits) is not Tensor:
        logits.register_hook(forward)
        return
    hooks: OrderedDict[int, Any] = OrderedDict()  # as torch's own handles want it, should the user
    hooks[-1] = forward  # add a hook too; theirs are numbered from 0
    logits._backward_hooks = hooks
    attach(logits)


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


def _refuse_other(before: Tensor, target: Tensor) -> None:
    """Refuse a second target for the logits of the last pass."""
    if before is target:
        return
    if before.shape == target.shape and torch.equal(before.to(target.device), target):
        return
    raise RuntimeError(
        "bdp_ext.prune: the criterion was called for the same logits with two different "
        "targets (mixup or cutmix), whose error belongs to no single sample; train without "
        "mixing, or score plain logits with bdp_ext.observe(level, index, logits, target)."
    )


class Hook:
    """A forward hook that survives `copy.deepcopy` of its module (and still reports to the same
    watch), and is left out when the module is pickled."""

    def __init__(self, watch: Watch, kind: str) -> None:
        self._watch = weakref.ref(watch)
        self._kind = kind

    def __call__(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        watch = self._watch()
        if watch is None:
            return
        given = (*args, *kwargs.values()) if kwargs else args
        if self._kind == "model":
            watch.model(given, output)
        else:
            watch.criterion(given)

    def __deepcopy__(self, memo: Any) -> "Hook":
        return self

    def __reduce__(self) -> Any:
        return _no_hook, ()


def _no_hook() -> Callable[..., None]:
    return _nothing


def _nothing(*_: Any) -> None:
    return None


def hang(watch: Watch, module: nn.Module, kind: str) -> None:
    """Hook a module, once."""
    hooks = module._forward_hooks.values()
    if not any(isinstance(hook, Hook) and hook._watch() is watch for hook in hooks):
        module.register_forward_hook(Hook(watch, kind), with_kwargs=True)


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
