"""What the search loop asks of a space."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint


class Supernet(nn.Module, ABC):
    """A network over all candidates of a space: forward(images [B, 3, H, W]) -> logits [B,
    classes].

    Its alphas are registered parameters; everything else is a weight.

    Attributes:
        fused: compute cells node by node (`fused.py`) and not mixed op by mixed op, where the space
            can: the same maths in less time.
        checkpoint_cells: keep no activations inside of cells; backward computes them again.
    """

    fused: bool = False
    checkpoint_cells: bool = False

    @abstractmethod
    def alphas(self) -> list[Parameter]:
        """The architecture parameters: alphas, each [edges, candidates], and after them the edges'
        strengths, each [edges], where the supernet has them."""

    def through(self, cell: nn.Module, *arguments: Any) -> Tensor:
        """cell(*arguments), computed again in the backward pass if `checkpoint_cells` says so."""
        if self.checkpoint_cells and torch.is_grad_enabled():
            y: Tensor = checkpoint(cell, *arguments, use_reentrant=False)
        else:
            y = cell(*arguments)
        return y

    def weights(self) -> list[Parameter]:
        """Every parameter that is no alpha."""
        own = {id(alpha) for alpha in self.alphas()}
        return [parameter for parameter in self.parameters() if id(parameter) not in own]


class Space(Protocol):
    """A search space."""

    @property
    def name(self) -> str:
        """As the command line spells it."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Settings of `SearchConfig` that are usual for this space and differ from others'."""

    def supernet(self, *, channels: int, cells: int, classes: int, part: int = 1) -> Supernet:
        """A freshly initialised supernet (torch's global generator).

        Args:
            part: search in one `part`-th of the channels, with normalised edges; 1: in all.
        """

    def derive(self, alphas: Sequence[Tensor]) -> dict[str, str]:
        """The strongest cell in the space's own string form, under the key `architecture`.

        Further keys hold other readings of the same alphas.
        """
