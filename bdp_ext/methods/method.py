"""What the search loop asks of a method."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from bdp_ext.spaces import Supernet


@dataclass(frozen=True)
class Batch:
    """Samples of one level."""

    index: Tensor  # [B] int64, CPU, the samples' numbers in their level
    images: Tensor  # [B, 3, H, W] float32
    target: Tensor  # [B] int64


class Loss(NamedTuple):
    """A level's loss and the logits it came from, by which the pruner scores the batch."""

    value: Tensor  # []
    logits: Tensor  # [B, classes]


class Method(Protocol):
    """A search method. The loop takes the gradients: each loss with respect to its own level's
    parameters only."""

    @property
    def name(self) -> str:
        """As the command line spells it."""

    def architecture_loss(self, supernet: Supernet, valid: Batch, train: Batch) -> Loss:
        """What the alpha step goes down, from a batch of D_V and the batch of D_T that comes
        next."""

    def weights_loss(self, supernet: Supernet, train: Batch) -> Loss:
        """What the weight step goes down, from a batch of D_T."""
