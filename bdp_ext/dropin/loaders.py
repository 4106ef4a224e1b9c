"""Loaders in the user's place: the same class, data set, workers and collate, but batches of live
samples only, each remembered when it is drawn."""

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data import BatchSampler, DataLoader

from bdp_ext.dropin.epoch_clock import Pass
from bdp_ext.dropin.label_finder import LabelFinder
from bdp_ext.dropin.level import Level
from bdp_ext.dropin.live_batches import LiveBatches, Recorder


class PrunedDataLoader(DataLoader[Any]):
    """Comes before the user's loader class in the bases of what stands in its place.

    Attributes:
        pruner: the handle of both levels.
        unpruned: the user's own loader, untouched: all samples, not scored.
    """

    pruner: Any
    unpruned: DataLoader[Any]
    _recorder: Recorder
    _level: Level
    _finder: LabelFinder | None
    _inside: dict[str, Any]

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        a_pass = self.pruner.open(self._level.name)
        before = self._recorder.drawn
        outside = {name: self.__dict__[name] for name in self._inside}
        self.__dict__.update(self._inside)
        try:
            iterator = super().__iter__()
        finally:
            self.__dict__.update(outside)
        drawn = self._recorder.drawn
        return _Batches(self, iterator, None if drawn is before else drawn, a_pass)

    def __len__(self) -> int:
        self.pruner.tick(next_batch=False)
        return len(self._recorder)


class _Batches:
    """One pass of a loader."""

    def __init__(
        self,
        loader: PrunedDataLoader,
        iterator: Iterator[Any],
        drawn: deque[list[Any]] | None,
        a_pass: Pass,
    ) -> None:
        self._loader = loader  # kept alive, and the handle with it
        self._iterator = iterator
        self._drawn = drawn  # None: the loader begins its pass with the first batch
        self._pass = a_pass

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._loader._recorder)

    def __next__(self) -> Any:
        loader = self._loader
        if loader._level.name == "train":
            loader.pruner.on_next_batch()
        try:
            batch = next(self._iterator)
        except StopIteration:
            self._pass.end(exhausted=True)
            loader.pruner.tick(next_batch=False)
            raise
        except Exception:
            if self._drawn:
                self._drawn.popleft()  # the batch that failed
            raise
        if self._drawn is None:
            self._drawn = loader._recorder.drawn
        index = self._drawn.popleft()
        return batch if loader._finder is None else loader._finder.drew(batch, index, self._pass)

    def __del__(self) -> None:
        self._pass.end(exhausted=False)


def prune_loader(
    loader: DataLoader[Any],
    level: Level,
    finder: LabelFinder | None,
    pruner: Any,
    inside: dict[str, Any],
) -> PrunedDataLoader:
    """A loader in the place of `loader`, which stays as it is.

    Args:
        loader: of a map-style data set.
        level: whose live samples it draws.
        finder: remembers its batches.
        pruner: the handle, which is told.
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
        pruner=pruner,
        _level=level,
        _finder=finder,
        _inside=inside,
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
