"""BDP's pruner of one level: scores by the Variance of Error.

pruner = VoePruner(labels, Schedule(epochs=50, interval=5, ratio=0.3), criterion="lowest")
for epoch in range(50):
    for index, images, target in batches(pruner.live):
        logits = model(images)
        pruner.observe(index, logits, target)
        ...
    pruner.end_epoch()
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from bdp_ext.pruning.pruner import Passes, Pruner, Pruning
from bdp_ext.pruning.window import ErrorWindow


class VoePruner(Pruner):
    """Prunes by the variance of each sample's error over the last epochs, which costs no forward
    pass.

    `criterion` says which VoE goes first, "lowest" or "highest"; "random": a random sample, under
    the same caps. The paper prunes the lowest of D_T, the highest of D_V. The other arguments are
    `Pruner`'s.

    Source: BDP (arXiv 2312.14200), Sec. 3.2.
    """

    name = "bdp"
    defaults: Mapping[str, Any] = {}
    criteria = ("lowest", "highest", "random")

    def __init__(self, labels: Tensor, *arguments: Any, **options: Any) -> None:
        super().__init__(labels, *arguments, **options)
        self.window = ErrorWindow(self.schedule.interval, labels.numel(), self.labels.device)

    def observe(
        self, index: Tensor, logits: Tensor, target: Tensor, features: Tensor | None = None
    ) -> None:
        device = self.window.scores.device
        self.window.record(index.to(device), logits, target.to(device))

    def end_epoch(self, passes: Passes | None = None) -> Pruning | None:
        self.window.refresh_unseen()
        pruning = super().end_epoch(passes)
        self.window.advance()
        return pruning

    def reset(self) -> None:
        self.window.reset()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "window": self.window.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.window.load_state_dict(state["window"])

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        score = self.window.voe.index_select(0, samples)
        if self.criterion == "random":
            known = ~score.isnan()
            draws = torch.rand(int(known.sum()), generator=self.generator)
            score[known] = draws.to(score.device)
        return score

    def recorded(self, samples: Tensor, score: Tensor) -> Tensor:
        return self.window.voe.index_select(0, samples)
