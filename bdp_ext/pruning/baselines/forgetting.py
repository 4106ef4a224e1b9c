"""Forgetting events (arXiv 1812.05159): samples that are learned once and for all go first."""

import torch
from torch import Tensor

from bdp_ext.pruning import Passes
from bdp_ext.pruning.baselines.dynamics import Dynamics


class Forgetting(Dynamics):
    """The score counts how often a sample was wrong after it had been right; a sample that was
    never right counts as forgotten more often than any other. Low ones go.

    The paper counts over a whole training before it prunes; here each pruning goes by the count so
    far. Many samples tie: among equals the choice is random.

    Source: Toneva et al., "An Empirical Study of Example Forgetting during Deep Neural Network
        Learning" (arXiv 1812.05159), Sec. 3.
    """

    name = "forgetting"

    def initial_scores(self) -> dict[str, Tensor]:
        return {
            **super().initial_scores(),
            "events": self.per_sample(0),
            "right": self.per_sample(float("nan")),  # at its last presentation
            "ever_right": self.per_sample(0),
        }

    def measure(self, logits: Tensor, target: Tensor, features: Tensor | None) -> Tensor:
        return (logits.argmax(1) == target).float()

    def close(self, value: Tensor) -> None:
        right = self.scores["right"]
        self.scores["events"] += (right == 1) & (value == 0)
        self.scores["ever_right"] += value == 1
        right.copy_(value.where(~value.isnan(), right))

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        never = self.scores["ever_right"][samples] == 0
        events = self.scores["events"][samples].masked_fill(never, self.epoch)
        events[self.scores["right"][samples].isnan()] = float("nan")
        order = torch.rand(samples.numel(), generator=self.generator)
        return events + order.to(events.device)
