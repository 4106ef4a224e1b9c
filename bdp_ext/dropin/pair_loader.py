"""One loader that yields both levels: (input, label, input, label), the second half drawn by the
data set itself."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from bdp_ext.dropin.labels import find_labels, inner_datasets
from bdp_ext.dropin.level import Level, SharedOnCopy
from bdp_ext.pruning import VoePruner


def second_half(dataset: Any, given: tuple[Any, Sequence[int]] | None) -> tuple[Any, Tensor]:
    """The data set that the second half of a pair comes from, and its samples that are drawn.

    Args:
        dataset: whose items are pairs; AutoDL-Projects' `SearchDataset`, or one that keeps one or
            two map-style data sets.
        given: what the user passed as `valid=`.

    Raises:
        ValueError: the data set does not tell.
    """
    if given is not None:
        return given[0], torch.as_tensor(given[1]).long().unique()
    inner = list(inner_datasets(dataset).values())
    split = getattr(dataset, "valid_split", None)
    if split is not None and inner:
        return inner[-1], torch.as_tensor(split).long().unique()
    if len(inner) == 2:
        return inner[1], torch.arange(len(inner[1]))
    raise ValueError(
        f"bdp_ext.prune: cannot tell where the second half of the items of "
        f"{type(dataset).__name__} comes from; pass valid=(its data set, the indices it draws), or "
        "give two loaders."
    )


def first_half_labels(dataset: Any) -> Tensor | None:
    """[len(dataset)] int64, the classes of the first halves; None where the data set does not
    tell."""
    inner, split = list(inner_datasets(dataset).values()), getattr(dataset, "train_split", None)
    labels = find_labels(inner[0]) if inner else None
    if labels is not None and split is not None:
        labels = labels[torch.as_tensor(split).long()]
    return labels if labels is not None and len(labels) == len(dataset) else None


class SharedLevel(Level):
    """A level whose live samples worker processes see too, at once, persistent ones included.

    Args:
        dataset: that the samples come from.
    """

    def __init__(
        self,
        name: str,
        labels: Tensor,
        members: Tensor,
        pruner: VoePruner | None,
        dataset: Any,
    ) -> None:
        self.dataset = dataset
        self.reader = Reader(labels.numel())
        super().__init__(name, labels, members, pruner)

    def renew(self) -> None:
        super().renew()
        self.reader.renew(self.live_indices)


class Reader(SharedOnCopy):
    """What a worker process knows of the second half's live samples, in shared memory.

    Args:
        samples: N, of the data set. Those that the level never had count as pruned.
    """

    def __init__(self, samples: int) -> None:
        self._alive = torch.zeros(samples, dtype=torch.bool).share_memory_()

    def renew(self, live: Tensor) -> None:
        self._alive.copy_(torch.zeros_like(self._alive).index_fill_(0, live, True))

    def instead(self, index: int, salt: int) -> int:
        """A live sample for a pruned one, any with the same probability and without drawing a
        random number; a live sample for itself."""
        if self._alive[index]:
            return index
        live = self._alive.nonzero()
        mixed = (index * 0x9E3779B1 + salt * 0x85EBCA77) & 0xFFFFFFFF
        return int(live[(mixed ^ (mixed >> 15)) % len(live)])


class _Inner(Dataset[Any]):
    """An inner data set that notes what is asked of it, and replaces a pruned second half."""

    def __init__(self, dataset: Any, pairs: "Pairs") -> None:
        self.__dict__.update(_dataset=dataset, _pairs=pairs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "_dataset" not in self.__dict__:
            raise AttributeError(name)
        return getattr(self.__dict__["_dataset"], name)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        return self._dataset[self._pairs.substitute(self._dataset, int(index))]


class Pairs(Dataset[Any]):
    """Stands for the pair data set while batches are made: yields (item, sample of the second
    half).

    Args:
        dataset: the user's, which stays as it is.
        second: the data set that the second half comes from, one of its attributes.
    """

    def __init__(self, dataset: Any, second: Any, reader: Reader) -> None:
        self._copy = copy.copy(dataset)
        for name, inner in inner_datasets(dataset).items():
            setattr(self._copy, name, _Inner(inner, self))
        self._second = second
        self._reader = reader
        self._taken: list[int] = []
        self._of: Any = None
        self._item = 0

    def __len__(self) -> int:
        return len(self._copy)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        self._taken, self._item = [], int(index)
        item = self._copy[index]
        if len(self._taken) != 2 or self._of is not self._second:
            raise RuntimeError(
                f"bdp_ext.prune: an item of {type(self._copy).__name__} must take one sample of "
                "each level, the second half last, from the data sets it keeps; pass valid=, or "
                "score with bdp_ext.observe(level, index, logits, target)."
            )
        return item, self._taken[1]

    def substitute(self, dataset: Any, index: int) -> int:
        """Called for every sample that the pair data set takes; which one it gets."""
        if len(self._taken) == 1:
            index = self._reader.instead(index, self._item)
        self._taken.append(index)
        self._of = dataset
        return index


class PairCollate:
    """The user's collate function, beside the samples of the second half."""

    def __init__(self, collate: Callable[[Any], Any] | None) -> None:
        self._collate = collate or default_collate

    def __call__(self, items: list[tuple[Any, int]]) -> tuple[Any, list[int]]:
        return self._collate([item for item, _ in items]), [second for _, second in items]
