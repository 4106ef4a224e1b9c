"""What a level has lost: which samples after which epoch, and the VoE that decided."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

DECADES = (-8, 0)
PER_DECADE = 8
BINS = PER_DECADE * (DECADES[1] - DECADES[0])
"""Bins of the histograms, the same for every pruning of every run, so that they can be compared.
EL2N is at most sqrt(2), a VoE at most .5; what is under 1e-8, zero included, is in the first bin.
"""


class PruningHistory:
    """The samples of a level that are gone, and histograms of the VoE they were chosen by.

    Args:
        samples: N, of the level.
        device: of the tensors.

    Attributes:
        epoch: [N] int32, after which epoch a sample was pruned, counted from 1; 0: it is live.
        voe: [N] float32, its VoE then; NaN: it is live.
        histograms: of each pruning [BINS] int64, CPU: the VoE of all live samples before it.
    """

    def __init__(self, samples: int, device: torch.device | str = "cpu") -> None:
        self.epoch = torch.zeros(samples, dtype=torch.int32, device=device)
        self.voe = torch.full((samples,), float("nan"), device=device)
        self.histograms: list[Tensor] = []

    @property
    def is_live(self) -> Tensor:
        """[N] bool, whether a sample is still there."""
        return self.epoch == 0

    @property
    def live(self) -> Tensor:
        """[n] int64, the samples still there, ascending."""
        return self.is_live.nonzero().squeeze(1)

    def restore(self) -> None:
        """All samples come back."""
        self.epoch.zero_()
        self.voe.fill_(float("nan"))

    def take(self, epoch: int, scored: Tensor, voe: Tensor, mask: Tensor) -> None:
        """Note a pruning.

        Args:
            epoch: after which.
            scored: [n] int64, the live samples that have a VoE.
            voe: [n] float32, theirs.
            mask: [n] bool, which of them go.
        """
        self.histograms.append(histogram(voe))
        gone = scored.masked_select(mask)
        self.epoch[gone] = epoch
        self.voe[gone] = voe.masked_select(mask)

    def in_order(self, criterion: str) -> Tensor:
        """[p] int64, CPU: the pruned samples, first by epoch, then by what the criterion takes
        first ("random": by their index)."""
        epoch, voe = self.epoch.cpu(), self.voe.cpu()
        gone = (epoch > 0).nonzero().squeeze(1)
        if criterion != "random":
            gone = gone[voe[gone].argsort(descending=criterion == "highest", stable=True)]
        return gone[epoch[gone].argsort(stable=True)]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "voe": self.voe, "histograms": self.histograms}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch.copy_(state["epoch"])
        self.voe.copy_(state["voe"])
        self.histograms = list(state["histograms"])


def histogram(voe: Tensor) -> Tensor:
    """How many of these VoE [n] float32 are in each bin: [BINS] int64, CPU."""
    place = (
        voe.clamp(min=10.0 ** DECADES[0]).log10().clamp(max=DECADES[1]) - DECADES[0]
    ) * PER_DECADE
    return place.long().clamp(max=BINS - 1).bincount(minlength=BINS).cpu()


def edges() -> Tensor:
    """[BINS + 1] float32, where the bins begin and end."""
    return torch.logspace(*DECADES, BINS + 1, dtype=torch.float64).float()
