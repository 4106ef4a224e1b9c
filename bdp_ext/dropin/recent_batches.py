"""The batches drawn lately: which samples, which labels, and how to know them again."""

from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from torch import Tensor

from bdp_ext.dropin.epoch_clock import Pass
from bdp_ext.dropin.level import Level

KEPT = 16
"""Batches of each level."""
FINGERPRINT = 16
"""Values of each input that tell batches apart."""


@dataclass(eq=False)
class DrawnBatch:
    """A batch of one level, as the loop got it.

    Attributes:
        level: its level.
        of: the pass of its queue that it belongs to.
        index: [B] int64, its samples, as the data set numbers them.
        target: [B] the loader's own label tensor; kept, so that its address stays its own.
        fingerprint: of its input, where batches are known by that.
        scored: the number of the forward pass that it was last scored by; 0: it never was.
    """

    level: Level
    of: Pass
    index: Tensor
    target: Tensor
    fingerprint: Tensor | None = None
    scored: int = 0

    @cached_property
    def labels(self) -> Tensor:
        """[B] int64 on the CPU, its classes."""
        return classes(self.target)

    @cached_property
    def values(self) -> Tensor | None:
        """Its fingerprint on the CPU; a loader may yield tensors of a GPU."""
        return None if self.fingerprint is None else self.fingerprint.cpu()


class RecentBatches:
    """The last batches drawn, of either level: an evaluation of one does not push out the
    other's."""

    def __init__(self) -> None:
        self._levels: dict[str, deque[DrawnBatch]] = defaultdict(lambda: deque(maxlen=KEPT))

    def add(self, batch: DrawnBatch) -> None:
        """Remember a batch."""
        self._levels[batch.level.name].appendleft(batch)

    def by_target(self, target: Tensor) -> DrawnBatch | None:
        """The batch whose label tensor this is, or a view of all of it (`Variable`, `.detach()`,
        `.squeeze()`, a `.to()` that had nothing to do)."""
        for batch in self.snapshot():
            same = batch.target
            if (
                same.data_ptr() == target.data_ptr()
                and same.numel() == target.numel()
                and same.dtype == target.dtype
                and same.device == target.device
            ):
                return batch
        return None

    def snapshot(self) -> tuple[DrawnBatch, ...]:
        """All of them, the newest of each level first."""
        return tuple(chain.from_iterable(self._levels.values()))


def same_labels(candidates: Sequence[DrawnBatch], target: Tensor) -> DrawnBatch | None:
    """The newest of these batches with exactly these labels; None where there is none, or where
    batches of both levels have them and nothing tells them apart.

    Args:
        target: [B] on the CPU, a copy that the loop made.
    """
    labels = classes(target)
    return _newest([batch for batch in candidates if torch.equal(batch.labels, labels)])


def same_input(candidates: Sequence[DrawnBatch], inputs: Tensor) -> DrawnBatch | None:
    """The newest of these batches with exactly this input, by its fingerprint on the CPU; it may
    have been cast to another precision."""
    return _newest(
        [
            batch
            for batch in candidates
            if batch.values is not None
            and batch.values.shape == inputs.shape
            and torch.equal(batch.values.to(inputs.dtype), inputs)
        ]
    )


def _newest(found: list[DrawnBatch]) -> DrawnBatch | None:
    levels = {batch.level for batch in found}
    return found[0] if len(levels) == 1 else None


def classes(target: Tensor) -> Tensor:
    """Classes [B] or [B, 1], whatever integers they are, as [B] int64 on the CPU."""
    return target.detach().reshape(-1).to("cpu", torch.int64)


def fingerprint(inputs: Tensor) -> Tensor:
    """A few values of each row of a batch: [B, <= FINGERPRINT], on its device."""
    rows = inputs.detach().flatten(1)
    return rows[:, :: max(1, rows.shape[1] // FINGERPRINT)][:, :FINGERPRINT].clone()
