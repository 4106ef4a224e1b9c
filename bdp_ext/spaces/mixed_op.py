"""The mixed op: every candidate of an edge at once, weighted by softmax(alpha)."""

from collections.abc import Mapping

from torch import Tensor, nn

from bdp_ext.spaces.operations import Builder


class MixedOp(nn.Module):
    """o(x) = sum_k weights[k] * op_k(x). `none` adds nothing and is not computed.

    Source: DARTS (arXiv 1806.09055), Eq. 2; BDP (arXiv 2312.14200), Eq. 1.
    """

    def __init__(self, candidates: Mapping[str, Builder], channels: int, stride: int = 1) -> None:
        super().__init__()
        self.operations = nn.ModuleList(
            build(channels, stride, False) for build in candidates.values()
        )
        self.computed = [k for k, name in enumerate(candidates) if name != "none"]

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        """x [B, C, H, W], weights [candidates], the softmax of the edge's alpha -> [B, C, H', W'],
        where H' = H / stride."""
        first, *others = self.computed
        total: Tensor = weights[first] * self.operations[first](x)
        for k in others:
            total = total + weights[k] * self.operations[k](x)
        return total
