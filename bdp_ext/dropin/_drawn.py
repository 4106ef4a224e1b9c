"""The batches drawn lately: which samples, which labels, and how to know them again."""

import weakref
from collections import defaultdict, deque
from functools import cached_property
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from bdp_ext.dropin import _native

KEPT = 16
PRINT = 16
"""Values of each input that tell batches apart when the loop has copied them to a device."""


class Drawn(_native.Drawn):
    """A batch, and what it is known by.

    Attributes:
        input: the input tensor, where batches are known by it.
    """

    input: weakref.ref[Tensor] | None = None

    @property
    def rows(self) -> int:
        """Its samples."""
        return len(self.index) // 4

    @cached_property
    def address(self) -> int:
        """Where its labels lie."""
        return self.target.data_ptr()

    @cached_property
    def labels(self) -> bytes:
        """Its classes, to be compared with another batch's."""
        return label_bytes(self.target)

    def check(self) -> None:
        """Refuse another number of labels than of samples."""
        if self.target.numel() != self.rows:
            raise RuntimeError(
                f"bdp_ext.prune: the {self.turn.level.name} loader drew {self.rows} samples "
                f"and yielded {self.target.numel()} labels (a collate function that drops or "
                "repeats samples?); let it keep one row per sample."
            )

    def know_by(self, inputs: Tensor) -> None:
        """Keep what its input tensor [B, ...], or a copy of it on a device, is known by."""
        self.input = weakref.ref(inputs)
        self.version = inputs._version
        self.print = fingerprint(inputs)


class Recent:
    """The last batches drawn, of either level: an evaluation of one does not push out the
    other's.

    Attributes:
        levels: those of each level, the newest first.
    """

    def __init__(self) -> None:
        self.levels: dict[str, deque[Drawn]] = defaultdict(lambda: deque(maxlen=KEPT))

    def of(self, level: str) -> deque[Drawn]:
        """Those of a level, the newest first; new ones are to be put in front."""
        return self.levels[level]

    def newest(self, target: Any) -> Drawn | None:
        """The batch whose label tensor this is, among the last one of each level."""
        for level in self.levels.values():
            if level and level[0].target is target:
                return level[0]
        return None

    def by_target(self, target: Tensor) -> Drawn | None:
        """The batch whose label tensor this is, or a view of all of it (`Variable`, `.detach()`,
        `.squeeze()`, a `.to()` that had nothing to do)."""
        address = target.data_ptr()
        for drawn in self.snapshot():
            if (
                drawn.address == address
                and drawn.target.numel() == target.numel()
                and drawn.target.dtype == target.dtype
                and drawn.target.device == target.device
            ):
                return drawn
        return None

    def by_input(self, inputs: Tensor) -> Drawn | None:
        """The batch whose input tensor this is, unchanged."""
        for drawn in self.snapshot():
            if drawn.input is not None and drawn.input() is inputs:
                return drawn if drawn.version == inputs._version else None
        return None

    def snapshot(self) -> tuple[Drawn, ...]:
        """All of them, the newest of each level first."""
        return tuple(chain.from_iterable(self.levels.values()))


def same_labels(candidates: tuple[Drawn, ...], target: Tensor) -> Drawn | None:
    """The newest of these batches with exactly these labels; None where there is none, or where
    batches of both levels have them and nothing tells them apart.

    Args:
        target: [B] on the CPU, a copy that the loop made.
    """
    labels = label_bytes(target)
    return _newest([drawn for drawn in candidates if drawn.labels == labels])


def same_input(candidates: tuple[Drawn, ...], print_: Tensor) -> Drawn | None:
    """The newest of these batches with exactly this input, by its fingerprint on the CPU; it may
    have been cast to another precision."""
    return _newest(
        [
            drawn
            for drawn in candidates
            if drawn.input is not None
            and drawn.print.shape == print_.shape
            and torch.equal(drawn.print.to(print_.dtype), print_)
        ]
    )


def _newest(found: list[Drawn]) -> Drawn | None:
    levels = {drawn.turn.level for drawn in found}
    return found[0] if len(levels) == 1 else None


def label_bytes(target: Tensor) -> bytes:
    """Classes [B] as bytes, whatever integers they are: 32 of them are compared in the time of one
    `torch.equal`."""
    values: bytes = target.to("cpu", torch.int64).numpy().tobytes()
    return values


def as_tensor(*indices: bytes) -> Tensor:
    """The samples of batches, one batch after the other, as one int64 tensor."""
    return torch.frombuffer(bytearray().join(indices), dtype=torch.int32).long()


def fingerprint(inputs: Tensor) -> Tensor:
    """A few values of each row of a batch: [B, <= PRINT], on its device."""
    rows = inputs.detach().flatten(1)
    return rows[:, :: max(1, rows.shape[1] // PRINT)][:, :PRINT].clone()
