"""The ring of the last K errors of every sample of a level, and their variance."""

from typing import Any

import torch
from torch import Tensor, distributed

from bdp_ext import ops


class ErrorWindow:
    """The last K EL2N scores of N samples and their VoE, kept current in place.

    A sample counts once an epoch: with the first batch of the epoch that holds it.

    Attributes:
        scores: [K, N] float32, NaN where a sample was not seen.
        voe: [N] float32, NaN below two scores. Exact for samples seen this epoch; `refresh_unseen`
            renews the others.
        slot: the row of this epoch.
    """

    def __init__(self, length: int, samples: int, device: torch.device | str = "cpu") -> None:
        self.scores = torch.full((length, samples), float("nan"), device=device)
        self.voe = torch.full((samples,), float("nan"), device=device)
        self.slot = 0

    def record(self, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """Score a batch: index [B] int64, logits [B, C], target [B] int64, all on the window's
        device."""
        unseen = self.scores[self.slot].index_select(0, index).isnan()
        ops.update_voe_(self.scores, self.voe, self.slot, index.where(unseen, -1), logits, target)

    def refresh_unseen(self) -> None:
        """Renew the VoE of the samples this epoch did not show: their oldest score has left the
        window."""
        missed = self.scores[self.slot].isnan()
        if bool(missed.any()):
            self.voe[missed] = ops.voe(self.scores[:, missed])

    def merge_ranks(self) -> None:
        """Take over the scores that other processes recorded this epoch; does nothing in a single
        process.

        Where several ranks scored a sample (a sampler that pads), the lowest score counts, so that
        every rank then prunes the same samples.
        """
        if not (distributed.is_available() and distributed.is_initialized()):
            return
        if distributed.get_world_size() == 1:
            return
        scores = self.scores[self.slot]
        merged = scores.nan_to_num(nan=float("inf"))
        if distributed.get_backend() == "nccl":
            merged = merged.cuda()
        distributed.all_reduce(merged, distributed.ReduceOp.MIN)
        merged = merged.to(scores.device)
        merged[merged.isinf()] = float("nan")
        changed = ~torch.eq(merged, scores) & ~merged.isnan()
        self.scores[self.slot] = merged
        self.voe[changed] = ops.voe(self.scores[:, changed])

    def advance(self) -> None:
        """Begin the next epoch: its row replaces the oldest one."""
        self.slot = (self.slot + 1) % self.scores.shape[0]
        self.scores[self.slot] = float("nan")

    def reset(self) -> None:
        """Begin anew: scores of another network are not to be compared with those to come."""
        self.scores.fill_(float("nan"))
        self.voe.fill_(float("nan"))

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores, "voe": self.voe, "slot": self.slot}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scores.copy_(state["scores"])
        self.voe.copy_(state["voe"])
        self.slot = state["slot"]
