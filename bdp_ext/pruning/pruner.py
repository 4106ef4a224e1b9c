"""The pruner of one level, and of both levels with one clock.

pruner = LevelPruner(labels, Schedule(epochs=50, interval=5, ratio=0.3), criterion="lowest")
for epoch in range(50):
    for index, images, target in batches(pruner.live):
        logits = model(images)
        pruner.observe(index, logits, target)
        ...
    pruner.end_epoch()
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from bdp_ext import ops
from bdp_ext.pruning.balance import CAPS, CapsExpression, balance_degree
from bdp_ext.pruning.pruned import Pruned
from bdp_ext.pruning.schedule import Schedule
from bdp_ext.pruning.window import ErrorWindow

CRITERIA = ("lowest", "highest", "random")


@dataclass(frozen=True)
class Pruning:
    """What one pruning of one level did.

    Attributes:
        epoch: after which epoch, counted from 1.
        before: live samples before it.
        asked: samples that the schedule asked for.
        taken: samples pruned; fewer than asked when caps bind or samples have no VoE.
        after: live samples after it.
        unscored: live samples without a VoE (fewer than two scores in the window), which stay.
        balance_before: b of the live samples before.
        balance_after: b of them after.
        capped_classes: the classes that would have lost more without their cap.
    """

    epoch: int
    before: int
    asked: int
    taken: int
    after: int
    unscored: int
    balance_before: float
    balance_after: float
    capped_classes: list[int]


class LevelPruner:
    """Scores, and the live samples, of one data set.

    Args:
        labels: [N] int64, the class of every sample.
        schedule: when and how much.
        criterion: which VoE goes first: "lowest", "highest" or "random" (a random one, under the
            same caps).
        balance: "paper", "none", or an expression of your own for the caps N_i (see
            `CapsExpression`).
        min_per_class: samples that every class keeps.
        seed: of "random".
        device: where the logits will be.

    Raises:
        ValueError: an argument outside its range.
    """

    def __init__(
        self,
        labels: Tensor,
        schedule: Schedule,
        *,
        criterion: str = "lowest",
        balance: str | CapsExpression = "paper",
        min_per_class: int = 1,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        if labels.dim() != 1 or labels.dtype != torch.int64 or labels.numel() == 0:
            raise ValueError(
                f"labels must be a non-empty 1-d int64 tensor, got {list(labels.shape)} "
                f"{labels.dtype}."
            )
        if int(labels.min()) < 0:
            raise ValueError(f"labels must be >= 0, got {int(labels.min())}.")
        if criterion not in CRITERIA:
            raise ValueError(f"criterion must be one of {', '.join(CRITERIA)}, got {criterion!r}.")
        if isinstance(balance, str) and balance not in CAPS:
            raise ValueError(f"balance must be one of {', '.join(CAPS)}, got {balance!r}.")
        if min_per_class < 1:
            raise ValueError(f"min_per_class must be >= 1, got {min_per_class}.")
        self.schedule = schedule
        self.criterion = criterion
        self.min_per_class = min_per_class
        self.epoch = 0
        self.prunings: list[Pruning] = []
        self.pruned = Pruned(labels.numel(), device)
        self.window = ErrorWindow(schedule.interval, labels.numel(), device)
        self._caps = CAPS[balance] if isinstance(balance, str) else balance
        self._labels = labels.to(device)
        self._classes = int(labels.max()) + 1
        # A label that no sample has (a class outside a subset) is no class of this data set.
        self._present = self._count(torch.arange(labels.numel(), device=device)) > 0
        self._generator = torch.Generator().manual_seed(seed)

    @property
    def live(self) -> Tensor:
        """[n] int64, the samples still there, ascending, on the pruner's device."""
        return self.pruned.live

    @property
    def balance(self) -> float:
        """b of the live samples (Eq. 5)."""
        return balance_degree(self._count(self.live)[self._present])

    def observe(self, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """Score a batch from logits the loop has anyway; a sample's first score in an epoch counts.

        Args:
            index: [B] int64, which samples of this level these are.
            logits: [B, C] float32, float16 or bfloat16, on the pruner's device. Read detached.
            target: [B] int64.

        Raises:
            ValueError: wrong shape, dtype or device.
        """
        device = self.window.scores.device
        self.window.record(index.to(device), logits, target.to(device))

    def end_epoch(self) -> Pruning | None:
        """Close the epoch; prunes when the schedule says so and returns what was done, else
        None."""
        self.epoch += 1
        self.window.settle()
        pruning = self._prune() if self.epoch in self.schedule.prunings else None
        self.window.advance()
        return pruning

    def report(self) -> list[dict[str, Any]]:
        """Every pruning so far, as plain values (see `Pruning`)."""
        return [asdict(pruning) for pruning in self.prunings]

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; loads with `weights_only=True`."""
        return {
            "epoch": self.epoch,
            "window": self.window.state_dict(),
            "pruned": self.pruned.state_dict(),
            "generator": self._generator.get_state(),
            "prunings": self.report(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = state["epoch"]
        self.window.load_state_dict(state["window"])
        self.pruned.load_state_dict(state["pruned"])
        self._generator.set_state(state["generator"])
        self.prunings = [Pruning(**pruning) for pruning in state["prunings"]]

    def _count(self, samples: Tensor) -> Tensor:
        return torch.bincount(self._labels[samples], minlength=self._classes).cpu()

    def _prune(self) -> Pruning:
        live = self.live
        counts, balance = self._count(live), self.balance
        asked = self.schedule.asked(self.epoch, live.numel(), self._labels.numel())
        expression = self._caps(counts, balance, len(self.schedule.prunings))
        cap = expression.minimum(counts - self.min_per_class).clamp(min=0).to(live.device)

        scored = live[~self.window.voe[live].isnan()]
        score, label = self._score(scored), self._labels[scored]
        largest = self.criterion == "highest"
        mask, _ = ops.capped_topk(score, label, cap, asked, largest=largest)
        self.pruned.take(self.epoch, scored, self.window.voe[scored], mask)

        pruning = Pruning(
            epoch=self.epoch,
            before=live.numel(),
            asked=asked,
            taken=int(mask.sum()),
            after=self.live.numel(),
            unscored=live.numel() - scored.numel(),
            balance_before=balance,
            balance_after=self.balance,
            capped_classes=_capped(score, label, mask, asked, largest),
        )
        self.prunings.append(pruning)
        return pruning

    def _score(self, samples: Tensor) -> Tensor:
        if self.criterion == "random":
            return torch.rand(samples.numel(), generator=self._generator).to(samples.device)
        return self.window.voe[samples]


def _capped(score: Tensor, label: Tensor, mask: Tensor, asked: int, largest: bool) -> list[int]:
    """The classes with a sample that was passed over though it ranks before the last one taken.

    Only a full class is passed over; when less was taken than asked, every class with samples left
    is full.
    """
    passed_over = ~mask
    if mask.any() and int(mask.sum()) >= asked:
        ranked = -score if largest else score
        last = ranked[mask].max()
        position = torch.arange(score.numel(), device=score.device)
        last_position = position[mask & (ranked == last)].max()
        passed_over &= (ranked < last) | ((ranked == last) & (position < last_position))
    elif asked == 0:
        return []
    return sorted(set(label[passed_over].tolist()))


class BilevelPruner:
    """The training level's and the validation level's pruner, on one clock.

    Args:
        train: pruner of D_T, which updates the weights; the paper prunes its lowest VoE.
        valid: pruner of D_V, which updates alpha; the paper prunes its highest VoE.
    """

    def __init__(self, train: LevelPruner, valid: LevelPruner) -> None:
        self.levels = {"train": train, "valid": valid}

    @property
    def train(self) -> LevelPruner:
        return self.levels["train"]

    @property
    def valid(self) -> LevelPruner:
        return self.levels["valid"]

    def observe(self, level: str, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """`LevelPruner.observe` of the level "train" or "valid"."""
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
