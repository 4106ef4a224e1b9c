"""The ring of the last K errors of every sample of a level, and their variance."""

from typing import Any

import torch
from torch import Tensor

from bdp_ext import ops


class ErrorWindow:
    """The last K EL2N scores of N samples and their VoE, kept current in place.

    A sample counts once an epoch: with the first batch of the epoch that holds it.

    Attributes:
        scores: [K, N] float32, NaN where a sample was not seen.
        slot: the row of this epoch.
    """

    def __init__(self, length: int, samples: int, device: torch.device | str = "cpu") -> None:
        self.scores = torch.full((length, samples), float("nan"), device=device)
        self._voe = torch.full((samples,), float("nan"), device=device)
        self.slot = 0
        self._row: Tensor | None = None  # of this epoch, once somebody else has asked for it
        self._stale = False  # whether somebody may have written since the VoE was computed

    @property
    def voe(self) -> Tensor:
        """[N] float32, NaN below two scores. Exact for samples seen this epoch; `settle` renews the
        others."""
        if self._stale:
            self._stale = False
            self._voe.copy_(ops.voe(self.scores))
        return self._voe

    @property
    def row(self) -> Tensor:
        """[N] float32: this epoch's scores, for somebody who has them already to write where they
        are NaN. To be asked for each time."""
        self._stale = True
        if self._row is None:
            self._row = self.scores[self.slot]
        return self._row

    def record(self, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """Score a batch: index [B] int64, logits [B, C], target [B] int64, all on the window's
        device."""
        unseen = self.scores[self.slot].index_select(0, index).isnan()
        ops.update_voe_(self.scores, self.voe, self.slot, index.where(unseen, -1), logits, target)

    def settle(self) -> None:
        """Renew the VoE of the samples this epoch did not show: their oldest score has left the
        window."""
        if self._stale:
            return  # all of it is renewed when it is asked for
        missed = self.scores[self.slot].isnan()
        if bool(missed.any()):
            self.voe[missed] = ops.voe(self.scores[:, missed])

    def advance(self) -> None:
        """Begin the next epoch: its row replaces the oldest one."""
        self.slot = (self.slot + 1) % self.scores.shape[0]
        self.scores[self.slot] = float("nan")
        self._row = None

    def forget(self) -> None:
        """Begin anew: scores of another network are not to be compared with those to come."""
        self.scores.fill_(float("nan"))
        self._voe.fill_(float("nan"))
        self._stale = False

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores, "voe": self.voe, "slot": self.slot}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores.copy_(state["scores"])
        self._voe.copy_(state["voe"])
        self.slot = state["slot"]
        self._row, self._stale = None, False
