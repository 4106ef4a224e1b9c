"""Dynamic uncertainty (arXiv 2306.05175): samples whose prediction hardly moves go first."""

import torch
from torch import Tensor

from bdp_ext.pruning import Passes
from bdp_ext.pruning.baselines.dynamics import Dynamics


class DynamicUncertainty(Dynamics):
    """The score is the standard deviation of the target's probability in a window of J epochs,
    averaged over all windows so far; low ones go.

    J is the pruning interval, as BDP's window (the paper: 10, and one pruning after a whole
    training). A window in which a sample was missed does not count.

    Source: He et al., "Large-scale Dataset Pruning with Dynamic Uncertainty" (arXiv 2306.05175).
    """

    name = "dynamic-uncertainty"

    def initial_scores(self) -> dict[str, Tensor]:
        window = self.per_sample(float("nan")).repeat(self.schedule.interval, 1)
        return {
            **super().initial_scores(),
            "window": window,
            "total": self.per_sample(0),
            "windows": self.per_sample(0),
        }

    def measure(self, logits: Tensor, target: Tensor, features: Tensor | None) -> Tensor:
        return logits.float().softmax(1).gather(1, target[:, None]).squeeze(1)

    def close(self, value: Tensor) -> None:
        window = self.scores["window"]
        window[self.epoch % len(window)] = value
        deviation = torch.std(window, 0)  # NaN until the window is full
        self.scores["total"] += deviation.nan_to_num(0)
        self.scores["windows"] += ~deviation.isnan()

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        return self.scores["total"][samples] / self.scores["windows"][samples]
