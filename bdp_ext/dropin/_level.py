"""One level's samples: which of its data set's they are, which are live, and their pruner."""

from typing import Any

import torch
from torch import Tensor

from bdp_ext.dropin._native import samples
from bdp_ext.pruning import LevelPruner


class Single:
    """Stays the same object when a loader that holds it is deep-copied."""

    def __deepcopy__(self, memo: Any) -> "Single":
        return self


class Level(Single):
    """A level as its data set numbers it; the pruner inside numbers its own samples 0 .. n - 1.

    All of it lives in the main process and on the CPU.

    Args:
        name: "train" or "valid".
        labels: [N] int64, of the whole data set.
        members: [n] int64, ascending: the level's samples.
        known: whether that is sure before a pass has been drawn.

    Attributes:
        position: [N] int64, where each sample stands among the members; -1: it is none.
        samples: labels and position once more, as `score_pass` reads them.
        pruner: of the n members; None when this level is not pruned.
        alive: [N] zero where a sample is pruned; always the same object.
        left: live members.
        pruned: whether some are gone.
    """

    def __init__(self, name: str, labels: Tensor, members: Tensor, known: bool = True) -> None:
        self.name = name
        self.labels = labels
        self.members = members
        self.known = known
        self.pruner: LevelPruner | None = None
        self.initial = members.numel()
        self.position = torch.full_like(labels, -1)
        self.position[members] = torch.arange(self.initial)
        self.samples = samples(labels, self.position)
        self.alive = bytearray(labels.numel())
        self.renew()

    def set_pruner(self, pruner: LevelPruner | None) -> None:
        self.pruner = pruner

    def renew(self) -> None:
        """Take over what the pruner left."""
        live = self.live_indices
        self.left = live.numel()
        self.pruned = self.left < self.initial
        alive = torch.ones(self.labels.numel(), dtype=torch.uint8)
        alive.index_fill_(0, self.members, 0).index_fill_(0, live, 1)
        self.alive[:] = alive.numpy().tobytes()

    @property
    def live_indices(self) -> Tensor:
        """[n] int64, the live samples as the data set numbers them, ascending."""
        if self.pruner is None:
            return self.members
        return self.members.index_select(0, self.pruner.live)

    def observe(self, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """Score a batch: index [B] int64 as the data set numbers them, logits [B, C], target [B]
        int64, all on the CPU."""
        if self.pruner is not None:
            self.pruner.observe(self.position.index_select(0, index), logits, target)

    @property
    def row(self) -> Tensor | None:
        """[n] float32: the members' scores of this epoch, to be written where they are NaN. To be
        asked for each time."""
        return None if self.pruner is None else self.pruner.window.row

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pruner is None else self.pruner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.pruner is not None:
            self.pruner.load_state_dict(state)
            self.renew()
