"""Random pruning: what every other method must beat at the same sizes."""

import torch
from torch import Tensor

from bdp_ext.pruning import Passes, Pruner


class Random(Pruner):
    """Every sample is as likely to go as any other of its class, under the same caps."""

    name = "random"
    criteria = ("lowest",)

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        return torch.rand(samples.numel(), generator=self.generator).to(samples.device)
