"""Look-alikes of the user's loaders: the same class, data set, workers and collate, but batches of
live samples only, each remembered when it is drawn."""

import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from bdp_ext.dropin._batches import LiveBatches, Recorder
from bdp_ext.dropin._clock import Pass
from bdp_ext.dropin._level import Level, Single


class Draws(Single):
    """What a loader tells while it is iterated; this one tells nobody.

    Attributes:
        asked: to be called when a pass is asked for its next batch; None: nobody wants to know.
    """

    asked: Callable[[], None] | None = None

    def open(self) -> Pass:
        """A pass begins."""
        return Pass()

    def ended(self) -> None:
        """A pass has just ended, or its length is wanted."""

    def drew(self, batch: Any, index: Sequence[Any], of: Pass) -> Any:
        """A batch of the samples `index`, one per row, was drawn; what the loop gets."""
        return batch


class LookAlike(DataLoader[Any]):
    """Comes before the user's loader class in the look-alike's bases.

    Attributes:
        pruner: the handle of both levels.
        unpruned: the user's own loader, untouched: all samples, not scored.
    """

    pruner: Any
    unpruned: DataLoader[Any]
    _recorder: Recorder
    _draws: Draws
    _inside: dict[str, Any]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        a_pass = self._draws.open()
        before = self._recorder.drawn
        outside = {name: self.__dict__[name] for name in self._inside}
        self.__dict__.update(self._inside)
        try:
            iterator = super().__iter__()
        finally:
            self.__dict__.update(outside)
        drawn = self._recorder.drawn
        return _Batches(iterator, self._recorder, None if drawn is before else drawn, a_pass, self)

    def __len__(self) -> int:
        self._draws.ended()
        return len(self._recorder)

    def tell(self, draws: Draws, pruner: Any) -> None:
        """Report to these draws of this handle."""
        self._draws = draws
        self.pruner = pruner


class _Batches:
    """One pass of a look-alike."""

    def __init__(
        self,
        iterator: Iterator[Any],
        recorder: Recorder,
        drawn: deque[list[Any]] | None,
        a_pass: Pass,
        loader: LookAlike,
    ) -> None:
        self._iterator = iterator
        self._recorder = recorder
        self._drawn = drawn  # None: the loader begins its pass with the first batch
        self._pass = a_pass
        self._draws = loader._draws
        self._loader = loader  # keeps the handle alive

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._recorder)

    def __next__(self) -> Any:
        draws = self._draws
        if draws.asked is not None:
            draws.asked()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._pass.end(exhausted=True)
            draws.ended()
            raise
        except Exception:
            if self._drawn:
                self._drawn.popleft()  # the batch that failed
            raise
        if self._drawn is None:
            self._drawn = self._recorder.drawn
        return draws.drew(batch, self._drawn.popleft(), self._pass)

    def __del__(self) -> None:
        self._pass.end(exhausted=False)


def look_alike(
    loader: DataLoader[Any],
    level: Level,
    inside: dict[str, Any] | None = None,
) -> LookAlike:
    """A look-alike of `loader`, which stays as it is.

    Args:
        loader: of a map-style data set.
        level: whose live samples it draws.
        inside: attributes that hold only while an iterator is made (a data set in disguise).
    """
    kind = type(loader)
    same: LookAlike = object.__new__(type("Pruned" + kind.__name__, (LookAlike, kind), {}))
    attributes = same.__dict__  # DataLoader refuses plain assignment of most of them
    attributes.update(loader.__dict__)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    recorder = Recorder(_live(attributes[name], level))
    attributes.update(
        {name: recorder, "_recorder": recorder, "_iterator": None, "in_order": True},
        unpruned=loader,
        _draws=Draws(),
        _inside=inside or {},
    )
    return same


def _live(batches: Any, level: Level) -> BatchSampler:
    """Filter as far inside as it goes: a sampler that shards another one's batches over ranks must
    get the same live batches on every rank."""
    inner = getattr(batches, "batch_sampler", None)
    if inner is None:
        return LiveBatches(batches, level)
    outer: BatchSampler = copy.copy(batches)
    outer.batch_sampler = _live(inner, level)  # type: ignore[attr-defined]
    return outer
