"""The mixed op: every candidate of an edge at once, weighted by softmax(alpha)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bdp_ext.spaces.operations import Builder, Zero


class MixedOp(nn.Module):
    """o(x) = sum_k weights[k] * op_k(x). `Zero` adds nothing and is not computed.

    Source: DARTS (arXiv 1806.09055), Eq. 2; BDP (arXiv 2312.14200), Eq. 1.
    """

    def __init__(self, candidates: Mapping[str, Builder], channels: int, stride: int = 1) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            build(channels, stride, False) for build in candidates.values()
        )
        self.computed = [k for k, op in enumerate(self.operations) if not isinstance(op, Zero)]

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x [B, C, H, W], weights [candidates], the softmax of the edge's alpha -> [B, C, H', W'],
        where H' = H / stride."""
        first, *others = self.computed
        total: Tensor = weights[first] * self.operations[first](x)
        for k in others:
            total = total + weights[k] * self.operations[k](x)
        return total


class PartialMixedOp(nn.Module):
    """The mixed op on one `part`-th of the channels; the others pass by, and a shuffle mixes them.

    Source: PC-DARTS (arXiv 1907.05737), Eq. 2.
    """

    def __init__(
        self, candidates: Mapping[str, Builder], channels: int, stride: int = 1, part: int = 4
    ) -> None:
        super().__init__()
        self.part = part
        self.searched = channels // part
        self.mixed = MixedOp(candidates, self.searched, stride)
        self.bypass = nn.Identity() if stride == 1 else nn.MaxPool2d(stride, stride)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """Shapes as in `MixedOp`."""
        y = self.mixed(x[:, : self.searched], weights)
        y = torch.cat([y, self.bypass(x[:, self.searched :])], 1)
        return torch.channel_shuffle(y, self.part)


def mixed_op(
    candidates: Mapping[str, Builder], channels: int, stride: int = 1, part: int = 1
) -> nn.Module:
    """The mixed op on all channels (part = 1) or on one `part`-th of them."""
    if part == 1:
        return MixedOp(candidates, channels, stride)
    return PartialMixedOp(candidates, channels, stride, part)


def normalise_edges(beta: Tensor, incoming: Sequence[int]) -> Tensor:
    """Softmax of beta [edges] over the edges of one node, node after node.

    Args:
        incoming: how many edges each node reads.

    Source: PC-DARTS (arXiv 1907.05737), Eq. 3.
    """
    return torch.cat([part.softmax(0) for part in beta.split(list(incoming))])
