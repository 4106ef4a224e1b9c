"""The mixed op: every candidate of an edge at once, weighted by softmax(alpha)."""

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from bdp_ext.spaces.operations import Builder, Zero


class CandidateWeights(NamedTuple):
    """What the candidates of some edges count: alpha as the method reads it.

    Attributes:
        values: [edges, candidates].
        computed: of each edge the candidates to compute, the others add nothing; None: all of them.
    """

    values: Tensor
    computed: Sequence[Collection[int]] | None = None

    def of_edge(self, row: int) -> tuple[Tensor, Collection[int] | None]:
        """An edge's weights [candidates], and which candidates to compute."""
        return self.values[row], None if self.computed is None else self.computed[row]


class MixedOp(nn.Module):
    """o(x) = sum_k weights[k] * op_k(x). `Zero` adds nothing and is not computed.

    Source: DARTS (arXiv 1806.09055), Eq. 2; BDP (arXiv 2312.14200), Eq. 1.
    """

    def __init__(self, candidates: Mapping[str, Builder], channels: int, stride: int = 1) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            build(channels, stride, False) for build in candidates.values()
        )
        self.adding = [k for k, op in enumerate(self.operations) if not isinstance(op, Zero)]

    def chosen(self, computed: Collection[int] | None) -> list[int]:
        """Those of `computed` that add something; None: of all."""
        return self.adding if computed is None else [k for k in self.adding if k in computed]

    def nothing(self, x: Tensor) -> Tensor:
        """What the edge adds where only `Zero` is chosen."""
        zero = next(op for op in self.operations if isinstance(op, Zero))
        y: Tensor = zero(x)
        return y

    def forward(
        self, x: Tensor, weights: Tensor, computed: Collection[int] | None = None
    ) -> Tensor:
        """x [B, C, H, W], weights [candidates] -> [B, C, H', W'], where H' = H / stride.

        Args:
            computed: the candidates to compute (see `CandidateWeights`).
        """
        chosen = self.chosen(computed)
        if not chosen:
            return self.nothing(x)
        first, *others = chosen
        total: Tensor = weights[first] * self.operations[first](x)
        for k in others:
            total = total + weights[k] * self.operations[k](x)
        return total


class PartialMixedOp(nn.Module):
    """The mixed op on 1 / `channel_divisor` of the channels; the others pass by, and a shuffle
    mixes them.

    Source: PC-DARTS (arXiv 1907.05737), Eq. 2.
    """

    def __init__(
        self,
        candidates: Mapping[str, Builder],
        channels: int,
        stride: int = 1,
        channel_divisor: int = 4,
    ) -> None:
        super().__init__()
        self.channel_divisor = channel_divisor
        self.searched = channels // channel_divisor
        self.mixed = MixedOp(candidates, self.searched, stride)
        self.bypass = nn.Identity() if stride == 1 else nn.MaxPool2d(stride, stride)

    def forward(
        self, x: Tensor, weights: Tensor, computed: Collection[int] | None = None
    ) -> Tensor:
        """As `MixedOp`."""
        y = self.mixed(x[:, : self.searched], weights, computed)
        y = torch.cat([y, self.bypass(x[:, self.searched :])], 1)
        return torch.channel_shuffle(y, self.channel_divisor)


def mixed_op(
    candidates: Mapping[str, Builder], channels: int, stride: int = 1, channel_divisor: int = 1
) -> nn.Module:
    """The mixed op on 1 / `channel_divisor` of the channels; 1: on all."""
    if channel_divisor == 1:
        return MixedOp(candidates, channels, stride)
    return PartialMixedOp(candidates, channels, stride, channel_divisor)


def normalise_edges(beta: Tensor, incoming: Sequence[int]) -> Tensor:
    """Softmax of beta [edges] over the edges of one node, node after node.

    Args:
        incoming: how many edges each node reads.

    Source: PC-DARTS (arXiv 1907.05737), Eq. 3.
    """
    return torch.cat([part.softmax(0) for part in beta.split(list(incoming))])
