"""Batches of dataset indices without the pruned samples, and a record of what was drawn."""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from torch.utils.data import BatchSampler
from torch.utils.data.distributed import DistributedSampler

from bdp_ext.dropin.level import Level


class _StandIn(BatchSampler):
    """Stands for a batch sampler: what is not its own is read from that one, and what a loop sets
    (`loader.batch_sampler.batch_size = 32`) is set there.

    Args:
        inner: that one.
        own: further attributes of its own.
    """

    inner: Any
    sampler: Any  # of that one

    def __init__(self, inner: Any, **own: Any) -> None:
        self.__dict__.update(inner=inner, **own)

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.inner, name)  # sampler, batch_size, drop_last, set_epoch, ...

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__:
            self.__dict__[name] = value
        else:
            setattr(self.inner, name, value)


class LiveBatches(_StandIn):
    """What a batch sampler yields, without the samples that are pruned.

    Until the first pruning these are its batches. After it, what is left of its order is cut into
    batches of its size; the last, partial batch is used unless the user's loader drops it or it
    holds a single sample. A sample that is pruned during a pass leaves that pass too.

    Args:
        inner: the user's: torch's `BatchSampler` over any sampler, or one of their own.
        level: whose live samples count.
    """

    level: Level
    _plain: bool
    _drawn_in_pass: int | None  # by a batch sampler of the user's own
    _largest: int  # batch of such a one

    def __init__(self, inner: Any, level: Level) -> None:
        plain = type(inner) is BatchSampler
        super().__init__(
            copy.copy(inner) if plain else inner,  # the user's loader keeps its batch size
            level=level,
            _plain=plain,
            _drawn_in_pass=None,
            _largest=1,
        )

    def __iter__(self) -> Iterator[list[Any]]:
        if self._plain and self.level.pruned:
            return self._joined([sample] for sample in self._samples())
        return self._joined(iter(self.inner))

    def _samples(self) -> Iterable[Any]:
        """Those of a pass after a pruning; some may be pruned."""
        wanted = self._wanted()
        if wanted is not None:
            return islice(self._repeated(), wanted)
        if isinstance(self.sampler, DistributedSampler):
            live = self.level.live_indices.tolist()
            return (live[position] for position in _over(self.sampler, live))
        samples: Iterable[Any] = self.sampler
        return samples

    def _alive(self, samples: Iterable[Any]) -> Iterator[Any]:
        return filter(self.level.alive.__getitem__, samples)

    def _repeated(self) -> Iterator[Any]:
        given = True
        while given:
            given = False
            for index in self._alive(self.sampler):
                given = True
                yield index

    def _wanted(self) -> int | None:
        """Samples in a pass; None: all that the sampler gives."""
        draws = len(self.sampler)
        if isinstance(self.sampler, DistributedSampler):
            return None
        if draws == self.level.initial and not getattr(self.sampler, "replacement", False):
            return None
        return max(1, round(draws * self.level.left / self.level.initial))

    def _size(self) -> int:
        if self._plain:
            return int(self.inner.batch_size)
        return max(self._largest, int(getattr(self.inner, "batch_size", None) or 1))

    def _use_rest(self, rest: int, first: bool) -> bool:
        """Whether the last, partial batch of a pass is yielded; a pass is never empty."""
        drop_last = bool(getattr(self.inner, "drop_last", False))
        return first or (not drop_last and (rest > 1 or self._size() == 1))

    def _joined(self, batches: Iterable[Any]) -> Iterator[list[Any]]:
        """These batches until a sample is pruned; after that, what is left of them in batches of
        their size."""
        level, drawn, first = self.level, 0, True
        rest: list[Any] = []
        for batch in batches:
            drawn += len(batch)
            if not level.pruned:
                self._largest = max(self._largest, len(batch))
                yield batch
                first = False
                continue
            rest += self._alive(batch)
            while len(rest) >= (size := self._size()):
                yield rest[:size]
                rest, first = rest[size:], False
        self._drawn_in_pass = drawn
        if not (level.known or level.pruned) and drawn + self._size() <= level.initial:
            raise RuntimeError(
                f"bdp_ext.prune: the {level.name} batch sampler {type(self.inner).__name__} drew "
                f"{drawn} of {level.initial} samples in a pass and does not say which it may draw; "
                "give it an attribute `indices` or pass indices=(train_indices, valid_indices)."
            )
        if rest and self._use_rest(len(rest), first):
            yield rest

    def __len__(self) -> int:
        """Batches of the next pass; of a batch sampler of the user's own that repeats samples, an
        estimate."""
        if not self.level.pruned:
            return len(self.inner)
        if not self._plain:
            draws = self._drawn_in_pass or len(self.inner) * self._size()
            samples = round(draws * self.level.left / self.level.initial)
        elif isinstance(self.sampler, DistributedSampler):
            samples = len(_over(self.sampler, range(self.level.left)))
        else:
            samples = self._wanted() or self.level.left
        full, rest = divmod(samples, self._size())
        return full + (rest > 0 and self._use_rest(rest, full == 0))


def _over(sampler: DistributedSampler[Any], live: Sequence[int]) -> DistributedSampler[Any]:
    """The same sampler over the live samples: every rank gets as many."""
    same: DistributedSampler[Any] = DistributedSampler(
        live,  # type: ignore[arg-type]
        num_replicas=sampler.num_replicas,
        rank=sampler.rank,
        shuffle=sampler.shuffle,
        seed=sampler.seed,
        drop_last=sampler.drop_last and len(live) >= sampler.num_replicas,
    )
    same.set_epoch(sampler.epoch)
    return same


class Recorder(_StandIn):
    """Passes batches of indices on and remembers those of the newest pass, in order.

    Attributes:
        drawn: the batches of indices that the loader took and has not yet yielded; a new one for
            each pass.
    """

    drawn: deque[list[Any]]

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, drawn=deque())

    def __iter__(self) -> Iterator[list[Any]]:
        drawn: deque[list[Any]] = deque()
        self.drawn = drawn
        return self._record(iter(self.inner), drawn)

    def _record(self, batches: Iterator[Any], drawn: deque[list[Any]]) -> Iterator[list[Any]]:
        for batch in batches:
            drawn.append(batch)
            yield batch

    def __len__(self) -> int:
        return len(self.inner)
