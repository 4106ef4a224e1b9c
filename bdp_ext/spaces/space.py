"""What the search loop asks of a space."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.utils.checkpoint import checkpoint

from bdp_ext.spaces.mixed_op import CandidateWeights
from bdp_ext.spaces.protocols import Protocols

IMAGENET_FROM = 128
"""Height and width from which images are taken for ImageNet's, in a search and in a retraining:
strides, and by default the protocol."""


def softmax(alpha: Tensor) -> Tensor:
    """DARTS's weights of the candidates: alpha [edges, candidates] -> the same shape."""
    return alpha.softmax(1)


class Supernet(nn.Module, ABC):
    """A network over all candidates of a space: forward(images [B, 3, H, W]) -> logits [B,
    classes].

    Its alphas are registered parameters; everything else is a weight.

    Attributes:
        fused: compute cells node by node (`fused.py`) and not mixed op by mixed op, where the space
            can: the same maths in less time.
        checkpoint_cells: keep no activations inside of cells; backward computes them again.
        alpha_to_weights: alpha [edges, candidates] -> weights of the candidates, of the same shape.
        skips_zeros: candidates whose weight is zero are not computed.
    """

    fused: bool = False
    checkpoint_cells: bool = False
    alpha_to_weights: Callable[[Tensor], Tensor] = staticmethod(softmax)
    skips_zeros: bool = False

    @abstractmethod
    def alphas(self) -> list[Parameter]:
        """The architecture parameters: alphas, each [edges, candidates], and after them beta, each
        [edges], where the edges of a node are weighted too (PC-DARTS)."""

    def candidate_weights(self, alpha: Tensor) -> CandidateWeights:
        """What the candidates of an alpha [edges, candidates] count in this forward pass.

        To be asked once a forward pass: a method may sample.
        """
        values = self.alpha_to_weights(alpha)
        if not self.skips_zeros:
            return CandidateWeights(values)
        used = (values.detach() != 0).tolist()
        # An edge of zeros alone is computed in full, so that its output has a shape.
        everything = range(values.shape[1])
        computed = [{k for k in everything if row[k]} or set(everything) for row in used]
        return CandidateWeights(values, computed)

    def run_cell(self, cell: nn.Module, *arguments: Any) -> Tensor:
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


Names = dict[str, dict[str, list[str]]]
"""What the numbers of the alphas stand for: for each alpha [edges, candidates] its name, and in it,
row by row, the edge's and its candidates'."""

Edge = tuple[str, str, str]
"""(from, to, operation): an arrow of a drawn architecture; the operation is empty where an output
only passes on."""


class Space(Protocol):
    """A search space."""

    @property
    def name(self) -> str:
        """As the command line spells it."""

    @property
    def defaults(self) -> Mapping[str, Any]:
        """Settings of `SearchConfig` that are usual for this space and differ from others'."""

    @property
    def retraining(self) -> Protocols:
        """Settings of `RetrainConfig` for the space's networks, by the name of a protocol."""

    def for_images(self, size: int) -> "Space":
        """The space as it is for images of this height and width: strides may depend on it."""

    def supernet(
        self, *, channels: int, cells: int, classes: int, channel_divisor: int = 1
    ) -> Supernet:
        """A freshly initialised supernet (torch's global generator).

        Args:
            channel_divisor: search in one of so many parts of the channels, with weighted edges
                (PC-DARTS); 1: in all.
        """

    def derive(self, alphas: Sequence[Tensor]) -> dict[str, str]:
        """The strongest cell in the space's own string form, under the key `architecture`.

        Further keys hold other readings of the same alphas.
        """

    def names(self, alphas: Sequence[Tensor]) -> Names:
        """What the numbers of these alphas stand for, beta left out."""

    def network(
        self,
        architecture: str,
        *,
        channels: int,
        cells: int,
        classes: int,
        imagenet: bool,
        auxiliary: bool,
    ) -> nn.Module:
        """The network of an architecture, freshly initialised, to be trained from scratch.

        Its forward gives logits: images [B, 3, H, W] -> [B, classes]. While it trains with an
        auxiliary head it gives a pair, these logits and the head's. Its last layer is `classifier`;
        it has an attribute `drop_path`, a probability, where its training may drop paths.

        Args:
            architecture: as `derive` writes it.
            channels: width of the first stage.
            cells: depth, in the space's own terms.
            classes: outputs.
            imagenet: with the strides for ImageNet, not those for CIFAR.
            auxiliary: with an auxiliary head, in submodules whose names begin with `auxiliary`.

        Raises:
            ValueError: no architecture of this space; says what is expected.
            UserError: settings that this space does not have.
        """

    def graph(self, architecture: str) -> dict[str, list[Edge]]:
        """The architecture as arrows between named nodes, cell by cell.

        Raises:
            ValueError: no architecture of this space; says what is expected.
        """
