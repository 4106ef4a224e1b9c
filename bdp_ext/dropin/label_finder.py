"""Finds the labels, and the inputs, in what a loader yields, and remembers the batch."""

from collections.abc import Iterator, Sequence
from functools import reduce
from operator import getitem
from operator import index as integer
from typing import Any

import torch
from torch import Tensor

from bdp_ext.dropin.epoch_clock import Pass
from bdp_ext.dropin.level import Level, SharedOnCopy
from bdp_ext.dropin.recent_batches import DrawnBatch, RecentBatches, fingerprint

Path = tuple[Any, ...]


class LabelFinder(SharedOnCopy):
    """Knows where in a loader's batches the label tensor of a level is, from the first one on.

    Args:
        level: whose labels they are.
        recent: where batches are remembered.
        last: prefer the last fitting tensor: the second half of a pair.
        inputs: find the input tensor too.
    """

    def __init__(
        self, level: Level, recent: RecentBatches, *, last: bool = False, inputs: bool = False
    ) -> None:
        self._level = level
        self._recent = recent
        self._last = last
        self._want_inputs = inputs
        self._target: Path | None = None
        self._input: Path | None = None

    def drew(self, batch: Any, index: Sequence[Any], of: Pass) -> Any:
        """Remember a batch of the samples `index`, one per row; what the loop gets.

        Raises:
            RuntimeError: it has no labels, or not one per sample or, when wanted, no input tensor.
            TypeError: its samples are no whole numbers.
        """
        try:
            samples = torch.tensor([integer(sample) for sample in index], dtype=torch.int64)
        except TypeError:
            raise TypeError(
                f"bdp_ext.prune: a sampler draws {index[0]!r}, and samples are known by their "
                "number in the data set; let the data set look up what else it needs."
            ) from None
        if self._target is None:
            self._target = self._locate(batch, samples)
        of.drawn += 1
        target = reduce(getitem, self._target, batch)
        if target.numel() != len(samples):
            raise RuntimeError(
                f"bdp_ext.prune: the {self._level.name} loader drew {len(samples)} samples "
                f"and yielded {target.numel()} labels (a collate function that drops or "
                "repeats samples?); let it keep one row per sample."
            )
        known_by = None
        if self._input is not None:
            known_by = fingerprint(reduce(getitem, self._input, batch))
        self._recent.add(DrawnBatch(self._level, of, samples, target, known_by))
        return batch

    def _locate(self, batch: Any, samples: Tensor) -> Path:
        found = list(_tensors(batch, ()))
        if not found:
            raise RuntimeError(
                f"bdp_ext.prune: no tensor can be found in what the {self._level.name} loader "
                f"yields, a {type(batch).__name__}; let its collate function return a tuple, a "
                "list, or a mapping with keys()."
            )
        if self._last:
            found.reverse()
        labels = self._level.labels[samples]
        fitting = [
            (path, tensor)
            for path, tensor in found
            if tensor.numel() == len(labels) and not tensor.is_floating_point()
        ]
        same = [path for path, tensor in fitting if torch.equal(tensor.reshape(-1).cpu(), labels)]
        if not same:
            other = "labels other than its data set keeps" if fitting else "no class per sample"
            raise RuntimeError(
                f"bdp_ext.prune: the {self._level.name} loader yields {other} (soft, mixed or "
                "per-pixel labels, or a collate function that changes them?); let it yield the "
                "classes, or pass labels=(train_labels, valid_labels) as the loaders yield them."
            )
        if self._want_inputs:
            inputs = [
                path
                for path, tensor in found
                if tensor.dim() >= 2 and len(tensor) == len(labels) and path != same[0]
            ]
            if not inputs:
                raise RuntimeError(
                    f"bdp_ext.prune: the {self._level.name} loader yields no input tensor; pass "
                    "loss= instead of model=."
                )
            self._input = inputs[0]
        return same[0]


class PairFinder(LabelFinder):
    """Of one queue of both levels, in disguise: its batches come with the samples of their second
    halves.

    Args:
        second: the level of those.
    """

    def __init__(self, level: Level, second: Level, recent: RecentBatches, *, inputs: bool) -> None:
        super().__init__(level, recent, inputs=inputs)
        self._second = LabelFinder(second, recent, last=True, inputs=inputs)

    def drew(self, batch: Any, index: Sequence[Any], of: Pass) -> Any:
        pair, second = batch
        super().drew(pair, index, of)
        return self._second.drew(pair, second, Pass())


def _tensors(value: Any, path: Path) -> Iterator[tuple[Path, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, (list, tuple)):
        for place, part in enumerate(value):
            yield from _tensors(part, (*path, place))
    elif callable(keys := getattr(value, "keys", None)):  # a mapping, or PyTorch Geometric's batch
        for key in keys():
            yield from _tensors(value[key], (*path, key))
