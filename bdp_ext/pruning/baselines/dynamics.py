"""Pruners that watch training: one number a sample and epoch, from passes that happen anyway."""

import torch
from torch import Tensor

from bdp_ext.pruning import Passes, Pruner, Pruning


class Dynamics(Pruner):
    """A subclass says what is measured of a sample (`measure`) and what is kept of an epoch's
    measurements when it ends (`close`).

    Nothing is measured any more once the last pruning is over.
    """

    def observe(
        self, index: Tensor, logits: Tensor, target: Tensor, features: Tensor | None = None
    ) -> None:
        if not self.watching():
            return
        now = self.scores["now"]
        index, target = index.to(now.device), target.to(now.device)
        value = self.measure(logits.detach(), target, features)
        now[index] = torch.where(now[index].isnan(), value, now[index])

    def end_epoch(self, passes: Passes | None = None) -> Pruning | None:
        if self.watching():
            self.close(self.scores["now"])
        pruning = super().end_epoch(passes)
        self.scores["now"].fill_(float("nan"))
        return pruning

    def watching(self) -> bool:
        """Whether a pruning is still to come."""
        return self.epoch < self.schedule.prunings[-1]

    def initial_scores(self) -> dict[str, Tensor]:
        return {"now": self.per_sample(float("nan"))}

    def per_sample(self, value: float) -> Tensor:
        """[N] float32, a number for each sample."""
        samples, device = self.labels.numel(), self.labels.device
        return torch.full((samples,), value, dtype=torch.float32, device=device)

    def measure(self, logits: Tensor, target: Tensor, features: Tensor | None) -> Tensor:
        """Of a batch's logits [B, C], target [B] and features [B, D]: [B] float32."""
        raise NotImplementedError

    def close(self, value: Tensor) -> None:
        """Take over an epoch's measurements: [N] float32, NaN where a sample was not seen."""
        raise NotImplementedError
