"""Batches of sample indices from a level that shrinks."""

from typing import Any

import torch
from torch import Tensor


class LiveSampler:
    """Random passes over the live samples of one level, cut into batches; all state lives here.

    A pass continues across epochs. The last, partial batch of a pass is used unless it holds a
    single sample (batch normalisation has no statistics of one). A pruned sample leaves at once,
    the pass under way included.

    Args:
        samples: how many samples the level has at the start; its indices are 0 .. samples - 1.
        batch_size: samples a batch.
        seed: of the order.
    """

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self.batch_size = batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._live = torch.arange(samples)
        self._pending = self._live[:0]

    @property
    def pass_done(self) -> bool:
        """Whether the next batch begins a new pass."""
        return self._pending.numel() == 0

    @property
    def peek(self) -> Tensor:
        """What `next_batch` will give unless a pruning comes first; empty where it begins a new
        pass."""
        return self._pending[: self.batch_size]

    def next_batch(self) -> Tensor:
        """The next [<= batch_size] int64 indices; begins a new pass when the last one is used
        up."""
        if self.pass_done:
            order = torch.randperm(self._live.numel(), generator=self._generator)
            self._pending = self._live[order]
        batch = self._pending[: self.batch_size]
        self._pending = self._pending[self.batch_size :]
        self._drop_single()
        return batch

    def keep(self, live: Tensor) -> None:
        """Go on with these samples only: live [n] int64, on the CPU."""
        self._live = live
        self._pending = self._pending[torch.isin(self._pending, live)]
        self._drop_single()

    def _drop_single(self) -> None:
        if self._pending.numel() == 1 < self.batch_size:
            self._pending = self._pending[:0]

    def state_dict(self) -> dict[str, Any]:
        return {
            "live": self._live,
            "pending": self._pending.clone(),
            "generator": self._generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._live = state["live"]
        self._pending = state["pending"]
        self._generator.set_state(state["generator"])


def batches_in_pass(samples: int, batch_size: int) -> int:
    """Batches that one pass of a `LiveSampler` gives."""
    full, rest = divmod(samples, batch_size)
    return full + (rest > 1)


def samples_drawn(samples: int, batch_size: int, batches: int) -> int:
    """Samples in the first `batches` batches of a `LiveSampler` that is never pruned."""
    a_pass = batches_in_pass(samples, batch_size)
    rest = samples % batch_size
    in_pass = samples - (rest == 1 < batch_size)
    passes, left = divmod(batches, a_pass)
    return passes * in_pass + min(left * batch_size, in_pass)
