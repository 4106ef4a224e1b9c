"""One level of the bi-level loop: its samples, their pruner, and what was counted."""

import time
from typing import Any

import torch
from torch import Tensor

from bdp_ext.data import ImageSet, normalize
from bdp_ext.methods import Batch, Loss
from bdp_ext.pruning import LevelPruner, LiveSampler, balance_degree


class Level:
    """Batches of one level's live samples.

    Args:
        data: all images, given on the device of the search.
        samples: [n] int64, which images are this level's.
        pruner: None for a search without pruning.
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        data: ImageSet,
        samples: Tensor,
        batch_size: int,
        pruner: LevelPruner | None,
        seed: int,
    ) -> None:
        self.data = data
        self.samples = samples
        self.labels = data.labels[samples]
        self.pruner = pruner
        self.sampler = LiveSampler(samples.numel(), batch_size, seed)
        self.forwarded = 0
        self.scoring = 0.0
        self.selecting = 0.0
        self._augmentation = torch.Generator().manual_seed(seed)
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget what was counted in the last epoch."""
        self.seen = 0
        self._sums = torch.zeros(2, dtype=torch.float64)  # correct answers, losses

    @property
    def size(self) -> int:
        """Live samples."""
        return self.pruner.live.numel() if self.pruner else self.samples.numel()

    @property
    def balance(self) -> float:
        """b of the live samples (Eq. 5)."""
        return self.pruner.balance if self.pruner else balance_degree(self.labels.bincount())

    @property
    def accuracy(self) -> float:
        """Share of this epoch's samples that the supernet got right, in the passes that updated
        it."""
        return float(self._sums[0]) / max(1, self.seen)

    @property
    def loss(self) -> float:
        """Mean loss of this epoch's samples."""
        return float(self._sums[1]) / max(1, self.seen)

    def next_batch(self) -> Batch:
        index = self.sampler.next_batch()
        images = self.data.read(self.samples[index], self._augmentation)
        coming = self.sampler.coming
        if coming.numel():
            self.data.expect(self.samples[coming], self._augmentation)
        target = self.labels[index].to(images.device)
        return Batch(index, normalize(images, self.data.mean, self.data.std), target)

    def observe(self, batch: Batch, loss: Loss) -> None:
        """Count a forward pass, and score its samples when the level is pruned."""
        logits = loss.logits.detach()
        correct = (logits.argmax(1) == batch.target).sum()
        if self._sums.device != logits.device:
            self._sums = self._sums.to(logits.device)
        self._sums += torch.stack(
            [correct.double(), loss.value.detach().double() * len(batch.index)]
        )
        self.seen += len(batch.index)
        self.forwarded += len(batch.index)
        if self.pruner:
            start = time.process_time()
            self.pruner.observe(batch.index, logits, batch.target)
            self.scoring += time.process_time() - start

    def end_epoch(self) -> None:
        """Prune when it is time; a pruned sample leaves the pass under way too."""
        if self.pruner:
            start = time.process_time()
            if self.pruner.end_epoch():
                self.sampler.keep(self.pruner.live.cpu())
            self.selecting += time.process_time() - start

    def forget(self) -> None:
        """Drop all scores: another network begins."""
        if self.pruner:
            self.pruner.window.forget()

    def state_dict(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.state_dict(),
            "augmentation": self._augmentation.get_state(),
            "pruner": self.pruner.state_dict() if self.pruner else None,
            "counts": {
                "seen": self.seen,
                "sums": self._sums.cpu(),
                "forwarded": self.forwarded,
                "scoring": self.scoring,
                "selecting": self.selecting,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.sampler.load_state_dict(state["sampler"])
        self._augmentation.set_state(state["augmentation"])
        if self.pruner:
            self.pruner.load_state_dict(state["pruner"])
        counts = state["counts"]
        self.seen, self._sums = counts["seen"], counts["sums"]
        self.forwarded = counts["forwarded"]
        self.scoring, self.selecting = counts["scoring"], counts["selecting"]
