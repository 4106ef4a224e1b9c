"""Loaders in the user's place: the same class, data set, workers and collate, but batches of live
samples only, each remembered when it is drawn."""

import copy
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from bdp_ext.dropin.epoch_clock import Pass
from bdp_ext.dropin.level import Level, SharedOnCopy
from bdp_ext.dropin.live_batches import LiveBatches, Recorder


class LoaderListener(SharedOnCopy):
    """Is told by a loader while that is iterated; this one does nothing."""

    def open(self) -> Pass:
        """A pass begins."""
        return Pass()

    def on_next_batch(self) -> None:
        """A pass is asked for its next batch."""

    def ended(self) -> None:
        """A pass has just ended, or its length is wanted."""

    def drew(self, batch: Any, index: Sequence[Any], of: Pass) -> Any:
        """A batch of the samples `index`, one per row, was drawn; what the loop gets."""
        return batch


class PrunedDataLoader(DataLoader[Any]):
    """Comes before the user's loader class in the bases of what stands in its place.

    Attributes:
        pruner: the handle of both levels.
        unpruned: the user's own loader, untouched: all samples, not scored.
    """

    pruner: Any
    unpruned: DataLoader[Any]
    _recorder: Recorder
    _listener: LoaderListener
    _inside: dict[str, Any]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        a_pass = self._listener.open()
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
        self._listener.ended()
        return len(self._recorder)

    def tell(self, listener: LoaderListener, pruner: Any) -> None:
        """Report to this listener, of this handle."""
        self._listener = listener
        self.pruner = pruner


class _Batches:
    """One pass of a loader."""

    def __init__(
        self,
        iterator: Iterator[Any],
        recorder: Recorder,
        drawn: deque[list[Any]] | None,
        a_pass: Pass,
        loader: PrunedDataLoader,
    ) -> None:
        self._iterator = iterator
        self._recorder = recorder
        self._drawn = drawn  # None: the loader begins its pass with the first batch
        self._pass = a_pass
        self._listener = loader._listener
        self._loader = loader  # keeps the handle alive

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._recorder)

    def __next__(self) -> Any:
        self._listener.on_next_batch()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._pass.end(exhausted=True)
            self._listener.ended()
            raise
        except Exception:
            if self._drawn:
                self._drawn.popleft()  # the batch that failed
            raise
        if self._drawn is None:
            self._drawn = self._recorder.drawn
        return self._listener.drew(batch, self._drawn.popleft(), self._pass)

    def __del__(self) -> None:
        self._pass.end(exhausted=False)


def prune_loader(
    loader: DataLoader[Any],
    level: Level,
    inside: dict[str, Any] | None = None,
) -> PrunedDataLoader:
    """A loader in the place of `loader`, which stays as it is.

    Args:
        loader: of a map-style data set.
        level: whose live samples it draws.
        inside: attributes that hold only while an iterator is made (a data set in disguise).
    """
    kind = type(loader)
    same: PrunedDataLoader = object.__new__(
        type("Pruned" + kind.__name__, (PrunedDataLoader, kind), {})
    )
    attributes = same.__dict__  # DataLoader refuses plain assignment of most of them
    attributes.update(loader.__dict__)
    name = "sampler" if loader.batch_sampler is None else "batch_sampler"
    recorder = Recorder(_live(attributes[name], level))
    attributes.update(
        {name: recorder, "_recorder": recorder, "_iterator": None, "in_order": True},
        unpruned=loader,
        _listener=LoaderListener(),
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
