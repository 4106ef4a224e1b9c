"""One level of the bi-level loop: its samples, their pruner, and what was counted."""

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bdp_ext.data import ImageSet, normalize
from bdp_ext.methods import Batch, Loss
from bdp_ext.pruning import LiveSampler, Outputs, Passes, Pruner, balance_degree
from bdp_ext.search.features import Features

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Images [B, 3, H, W] -> logits [B, classes] and features [B, D], without a gradient."""


class SearchLevel:
    """Batches of one level's live samples.

    Args:
        data: all images, given on the device of the search.
        samples: [n] int64, which images are this level's.
        pruner: None for a search without pruning.
        seed: of the order and the augmentation.

    Attributes:
        features: knows the input of the supernet's last layer, when the pruner needs it.
    """

    def __init__(
        self,
        data: ImageSet,
        samples: Tensor,
        batch_size: int,
        pruner: Pruner | None,
        seed: int,
    ) -> None:
        self.data = data
        self.samples = samples
        self.labels = data.labels[samples]
        self.pruner = pruner
        self.features: Features | None = None
        self.sampler = LiveSampler(samples.numel(), batch_size, seed)
        self.forwarded = 0
        self.extra_samples = 0
        self.extra_seconds = 0.0
        self.scoring = 0.0
        self.selecting = 0.0
        self._augmentation = torch.Generator().manual_seed(seed)
        self.start_epoch()

    def start_epoch(self) -> None:
        """Forget what was counted in the last epoch."""
        self.seen = 0
        self.sums = torch.zeros(2, dtype=torch.float64)  # correct answers, losses
        self._extra: tuple[Tensor, Outputs] | None = None

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
        return float(self.sums[0]) / max(1, self.seen)

    @property
    def loss(self) -> float:
        """Mean loss of this epoch's samples."""
        return float(self.sums[1]) / max(1, self.seen)

    def next_batch(self) -> Batch:
        index = self.sampler.next_batch()
        images = self.data.read(self.samples[index], self._augmentation)
        ahead = self.sampler.peek
        if ahead.numel():
            self.data.prefetch(self.samples[ahead], self._augmentation)
        target = self.labels[index].to(images.device)
        weight = None
        if self.pruner and self.pruner.weights is not None:
            weight = self.pruner.weights[index.to(images.device)]
        return Batch(index, normalize(images, self.data.mean, self.data.std), target, weight)

    def observe(self, batch: Batch, loss: Loss) -> None:
        """Count a forward pass, and score its samples when the level is pruned."""
        logits = loss.logits.detach()
        correct = (logits.argmax(1) == batch.target).sum()
        if self.sums.device != logits.device:
            self.sums = self.sums.to(logits.device)
        self.sums += torch.stack(
            [correct.double(), loss.value.detach().double() * len(batch.index)]
        )
        self.seen += len(batch.index)
        self.forwarded += len(batch.index)
        if self.pruner:
            start = time.process_time()
            features = self.features.of(loss.logits) if self.features else None
            self.pruner.observe(batch.index, logits, batch.target, features)
            self.scoring += time.process_time() - start

    def extra_forward(self, forward: Forward, samples: Tensor | None = None) -> Outputs:
        """Extra forward passes for a pruner, counted apart: of these samples, by default all.

        The images are not augmented. The same samples again in one epoch cost nothing.

        Args:
            samples: [n] int64, numbers of this level's samples.
        """
        samples = torch.arange(self.samples.numel()) if samples is None else samples.cpu()
        if self._extra is None or not torch.equal(self._extra[0], samples):
            start = time.process_time()
            # Batch norms may take the statistics of the batch: no order by class, no small batch.
            order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(0))
            parts = []
            for part in order.tensor_split(math.ceil(len(samples) / self.sampler.batch_size)):
                images = self.data.read(self.samples[samples[part]], None)
                parts.append(forward(normalize(images, self.data.mean, self.data.std)))
            logits, features = map(torch.cat, zip(*parts, strict=True))
            back = order.argsort().to(logits.device)
            target = self.labels[samples].to(logits.device)
            self._extra = samples, Outputs(logits[back], target, features[back])
            self.extra_samples += len(samples)
            self.extra_seconds += time.process_time() - start
        return self._extra[1]

    def end_epoch(self, passes: Passes | None = None) -> None:
        """Prune when it is time; a pruned sample leaves the pass under way too.

        Args:
            passes: what the pruner may ask for.
        """
        if self.pruner:
            start = time.process_time()
            if self.pruner.end_epoch(passes):
                self.sampler.keep(self.pruner.live.cpu())
            self.selecting += time.process_time() - start

    def state_dict(self) -> dict[str, Any]:
        return {
            "sampler": self.sampler.state_dict(),
            "augmentation": self._augmentation.get_state(),
            "pruner": self.pruner.state_dict() if self.pruner else None,
            "counts": {
                "seen": self.seen,
                "sums": self.sums.cpu(),
                "forwarded": self.forwarded,
                "extra": self.extra_samples,
                "passing": self.extra_seconds,
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
        self.seen, self.sums = counts["seen"], counts["sums"]
        self.forwarded, self.extra_samples = counts["forwarded"], counts["extra"]
        self.extra_seconds = counts["passing"]
        self.scoring, self.selecting = counts["scoring"], counts["selecting"]
