"""Both levels' pruners with one clock."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from bdp_ext.pruning.pruner import Pruner, Pruning


class BilevelPruner:
    """The training level's and the validation level's pruner, on one clock.

    Args:
        train: pruner of D_T, which updates the weights; the paper prunes its lowest VoE.
        valid: pruner of D_V, which updates alpha; the paper prunes its highest VoE.
    """

    def __init__(self, train: Pruner, valid: Pruner) -> None:
        self.levels = {"train": train, "valid": valid}

    @property
    def train(self) -> Pruner:
        return self.levels["train"]

    @property
    def valid(self) -> Pruner:
        return self.levels["valid"]

    def observe(self, level: str, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """`Pruner.observe` of the level "train" or "valid"."""
        self.levels[level].observe(index, logits, target)

    def end_epoch(self) -> dict[str, Pruning]:
        """Close the epoch on both levels; what was pruned, by level."""
        done = {name: level.end_epoch() for name, level in self.levels.items()}
        return {name: pruning for name, pruning in done.items() if pruning is not None}

    def report(self) -> list[dict[str, Any]]:
        """Every pruning so far in order of time, each with its `level`."""
        rows = [
            {"level": name, **row} for name, level in self.levels.items() for row in level.report()
        ]
        return sorted(rows, key=lambda row: int(row["epoch"]))

    def state_dict(self) -> dict[str, Any]:
        return {name: level.state_dict() for name, level in self.levels.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, level in self.levels.items():
            level.load_state_dict(state[name])
