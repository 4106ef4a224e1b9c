"""One level's samples: which of its data set's they are, which are live, and their pruner."""

from typing import Any

import torch
from torch import Tensor

from bdp_ext.pruning import VoePruner


class SharedOnCopy:
    """Stays the same object when a loader that holds it is deep-copied."""

    def __deepcopy__(self, memo: Any) -> "SharedOnCopy":
        return self


class Level(SharedOnCopy):
    """A level as its data set numbers it; the pruner inside numbers its own samples 0 .. n - 1.

    All of it lives in the main process and on the CPU.

    Args:
        name: "train" or "valid".
        labels: [N] int64, of the whole data set.
        members: [n] int64, ascending: the level's samples.
        pruner: of the n members; None: this level is not pruned.
        known: whether the members are sure before a pass has been drawn.

    Attributes:
        position: [N] int64, where each sample stands among the members; -1: it is none.
        alive: [N] zero where a sample is pruned; always the same object.
        left: live members.
        pruned: whether some are gone.
    """

    def __init__(
        self,
        name: str,
        labels: Tensor,
        members: Tensor,
        pruner: VoePruner | None,
        known: bool = True,
    ) -> None:
        self.name = name
        self.labels = labels
        self.members = members
        self.pruner = pruner
        self.known = known
        self.initial = members.numel()
        self.position = torch.full_like(labels, -1)
        self.position[members] = torch.arange(self.initial)
        self.alive = bytearray(labels.numel())
        self.renew()

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
            scored = logits.float() if logits.dtype == torch.float64 else logits
            self.pruner.observe(self.position.index_select(0, index), scored, target)

    def state_dict(self) -> dict[str, Any]:
        return {} if self.pruner is None else self.pruner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.pruner is not None:
            self.pruner.load_state_dict(state)
            self.renew()
