"""InfoBatch (arXiv 2303.04947): every epoch leaves out other easy samples and counts the remaining
ones more."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from bdp_ext.pruning import Passes, Pruning, Schedule
from bdp_ext.pruning.baselines.dynamics import Dynamics

PRUNED = 0.875
"""Share of the epochs with pruning; the last ones see all samples."""


class InfoBatch(Dynamics):
    """Of the samples whose last known loss is below the mean, each epoch leaves out the share r,
    drawn at random; the losses of those that remain are multiplied by 1 / (1 - r), so that the
    gradient keeps its expectation.

    r is the share that a pruning takes (`ratio` of the schedule), or 1 - `keep`. Of the schedule it
    uses that, the warm-up and the number of epochs: it draws anew after each of them, and so its
    sizes are its own. There are no class caps, under which the gradient would be biased.

    Source: Qin et al., "InfoBatch: Lossless Training Speed Up by Unbiased Dynamic Data Pruning"
        (arXiv 2303.04947), Sec. 2.
    """

    name = "infobatch"
    criteria = ("lowest",)
    readmits = True

    def __init__(self, labels: Tensor, schedule: Schedule, **options: Any) -> None:
        super().__init__(labels, schedule, **{**options, "balance": "none"})
        ratio, keep = schedule.ratio, schedule.keep
        self.ratio = ratio if ratio is not None else 1 - (keep or 0)
        self._weights = self.per_sample(1)

    @property
    def weights(self) -> Tensor:
        return self._weights

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._weights.copy_(state["weights"])

    def initial_scores(self) -> dict[str, Tensor]:
        return {**super().initial_scores(), "loss": self.per_sample(float("nan"))}

    def measure(self, logits: Tensor, target: Tensor, features: Tensor | None) -> Tensor:
        return cross_entropy(logits.float(), target, reduction="none")

    def close(self, value: Tensor) -> None:
        loss = self.scores["loss"]
        loss.copy_(value.where(~value.isnan(), loss))

    def watching(self) -> bool:
        return self.epoch < PRUNED * self.schedule.all_epochs

    def is_due(self) -> bool:
        pruning = self.watching() and bool(self._easy().any())
        last_ones = not self.watching() and not bool(self.history.is_live.all())
        return max(1, self.schedule.warmup) <= self.epoch < self.schedule.all_epochs and (
            pruning or last_ones
        )

    def _easy(self) -> Tensor:
        """[N] bool, whose last known loss is below the mean."""
        loss = self.scores["loss"]
        return loss < loss.nanmean()

    def num_requested(self, samples: int, live: int) -> int:
        return math.floor(self.ratio * int(self._easy().sum())) if self.watching() else 0

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        draws = torch.rand(samples.numel(), generator=self.generator).to(samples.device)
        return draws.masked_fill(~self._easy(), float("nan"))

    def prune(self, passes: Passes | None) -> Pruning | None:
        pruning = super().prune(passes)
        assert pruning is not None  # samples come back even where none is left out
        remaining = self._easy() & self.history.is_live
        kept = max(1, int(remaining.sum()))
        self._weights.fill_(1)[remaining] = (pruning.taken + kept) / kept
        return pruning
