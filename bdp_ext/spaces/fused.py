"""A cell computed node by node, with the maths of the readable mixed op in a fraction of its time.

What edges share is computed once: the ReLU and the pools of each source. The batch norms at the
end of the candidates and the alpha-weighted sum over all of a node's edges are one operation,
`ops.node_sum`; `none` is not computed, nor what the method does not choose. Loss and gradients are
those of `mixed_op.py` up to rounding.
"""

from collections.abc import Collection, Iterable, Sequence
from functools import singledispatch
from typing import Any, cast

import torch
from torch import Tensor, nn

from bdp_ext import ops
from bdp_ext.spaces.mixed_op import CandidateWeights, MixedOp, PartialMixedOp
from bdp_ext.spaces.operations import (
    DilatedConv,
    FactorizedReduce,
    NormedPool,
    ReluConvBn,
    SeparableConv,
)
from bdp_ext.spaces.separable import convolve


class NodeOutput:
    """A node's output x [B, C, H, W], and what the edges that read it share."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._relu: Tensor | None = None
        self._pooled: dict[tuple[Any, ...], Tensor] = {}

    @property
    def relu(self) -> Tensor:
        if self._relu is None:  # torch.compile does not go into a cached_property and its lock
            self._relu = self.x.relu()
        return self._relu

    def pooled(self, pool: nn.AvgPool2d | nn.MaxPool2d) -> Tensor:
        """A pool of x, computed by the first edge that has one like it."""
        key = (type(pool), *(getattr(pool, name) for name in pool.__constants__))
        if key not in self._pooled:
            self._pooled[key] = pool(self.x)
        return self._pooled[key]


@singledispatch
def before_norm(operation: nn.Module, source: NodeOutput) -> tuple[Tensor, bool]:
    """A candidate's output up to its last batch norm, and whether it has one. A supernet's have no
    affine.

    Operations that are not known here are computed as they are.
    """
    return operation(source.x), False


@before_norm.register(nn.AvgPool2d)
@before_norm.register(nn.MaxPool2d)
def _(operation: nn.AvgPool2d | nn.MaxPool2d, source: NodeOutput) -> tuple[Tensor, bool]:
    return source.pooled(operation), False


@before_norm.register
def _(operation: ReluConvBn, source: NodeOutput) -> tuple[Tensor, bool]:
    return operation[1](source.relu), True


@before_norm.register
def _(operation: DilatedConv, source: NodeOutput) -> tuple[Tensor, bool]:
    return convolve(operation, source.relu, norm_relu=False), True


@before_norm.register
def _(operation: SeparableConv, source: NodeOutput) -> tuple[Tensor, bool]:
    first, second = cast(Iterable[DilatedConv], operation)
    y = convolve(first, source.relu, norm_relu=False)
    return convolve(second, y, norm_relu=True), True


@before_norm.register
def _(operation: FactorizedReduce, source: NodeOutput) -> tuple[Tensor, bool]:
    x = source.relu
    return torch.cat([operation.even(x), operation.odd(x[:, :, 1:, 1:])], 1), True


@before_norm.register
def _(operation: NormedPool, source: NodeOutput) -> tuple[Tensor, bool]:
    return before_norm(operation[0], source)[0], True


def normed(operation: nn.Module, x: Tensor) -> Tensor:
    """One operation by itself, its batch norm included."""
    y, has_norm = before_norm(operation, NodeOutput(x))
    if not has_norm:
        return y
    one = y.new_ones(1, dtype=torch.promote_types(y.dtype, torch.float32))
    return ops.node_sum([y], one, [True])


class PartialNodeOutput(NodeOutput):
    """A node's output of which one part of the channels is searched and the others pass by
    (PC-DARTS)."""

    def __init__(self, x: Tensor, searched: int) -> None:
        super().__init__(x[:, :searched].contiguous(memory_format=torch.channels_last))
        self._others = x[:, searched:]
        self._passed: dict[type, Tensor] = {}

    def passed(self, bypass: nn.Module) -> Tensor:
        """What passes by an edge, in its resolution."""
        if type(bypass) not in self._passed:
            y = bypass(self._others)
            self._passed[type(bypass)] = y.contiguous(memory_format=torch.channels_last)
        return self._passed[type(bypass)]


class Nodes(nn.Module):
    """The nodes of a cell, each a weighted sum over all candidates of all its edges.

    Args:
        table: (node, source) of each edge, node after node; sources are numbered through, the
            cell's inputs first.
        edges: the mixed op of each edge.
    """

    def __init__(self, table: Sequence[tuple[int, int]], edges: nn.ModuleList) -> None:
        super().__init__()
        self.sources = [source for _, source in table]
        self.rows = [
            [row for row, (reader, _) in enumerate(table) if reader == node] for node in dict(table)
        ]
        for node, rows in enumerate(self.rows):
            # Positions in the flattened weights of what the node adds up.
            mixed = [(row, _mixed(edges[row])) for row in rows]
            picks = [row * len(op.operations) + k for row, op in mixed for k in op.adding]
            self.register_buffer(f"picks_{node}", torch.tensor(picks), persistent=False)

    def forward(
        self,
        inputs: Sequence[Tensor],
        edges: nn.ModuleList,
        weights: CandidateWeights,
        edge_weights: Tensor | None,
    ) -> list[Tensor]:
        """The cell's inputs [B, C, H, W], the mixed ops, weights [edges, candidates], edge weights
        [edges] or none -> the nodes, each [B, C, H', W']."""
        values, computed = weights
        if edge_weights is not None:
            values = values * edge_weights.unsqueeze(1)
        sources: list[Any] = [self._source(x, edges[0]) for x in inputs]
        nodes = []
        for node, rows in enumerate(self.rows):
            terms, normed = [], []
            for row in rows:
                mixed = _mixed(edges[row])
                for k in mixed.chosen(None if computed is None else computed[row]):
                    term, has_norm = before_norm(mixed.operations[k], sources[self.sources[row]])
                    terms.append(term)
                    normed.append(has_norm)
            if terms:
                picked = self._pick(node, edges, values, computed)
                y = ops.node_sum(_same_type(terms), picked, normed)
            else:
                y = _mixed(edges[rows[0]]).nothing(sources[self.sources[rows[0]]].x)
            if isinstance(edges[0], PartialMixedOp) and edge_weights is not None:
                passed = [sources[self.sources[row]].passed(edges[row].bypass) for row in rows]
                edge_weight = edge_weights[rows[0] : rows[-1] + 1]
                others = ops.node_sum(_same_type(passed), edge_weight, [False] * len(rows))
                y = torch.cat(_same_type([y, others]), 1)
                y = torch.channel_shuffle(y, edges[0].channel_divisor)
            nodes.append(y)
            sources.append(self._source(y, edges[0]))
        return nodes

    def _pick(
        self,
        node: int,
        edges: nn.ModuleList,
        values: Tensor,
        computed: Sequence[Collection[int]] | None,
    ) -> Tensor:
        """The weights of what a node adds up."""
        if computed is None:
            return values.flatten()[self.get_buffer(f"picks_{node}")]
        rows = values.unbind()  # and no index made on the host, which would have to be copied
        return torch.cat(
            [
                rows[row][k : k + 1]
                for row in self.rows[node]
                for k in _mixed(edges[row]).chosen(computed[row])
            ]
        )

    def _source(self, x: Tensor, edge: nn.Module) -> NodeOutput:
        if isinstance(edge, PartialMixedOp):
            return PartialNodeOutput(x, edge.searched)
        return NodeOutput(x)


def _mixed(edge: nn.Module) -> MixedOp:
    return edge.mixed if isinstance(edge, PartialMixedOp) else edge  # type: ignore[return-value]


def _same_type(terms: Sequence[Tensor]) -> list[Tensor]:
    """Under autocast convolutions give half; what does not come from one joins them in that."""
    kind = min((term.dtype for term in terms), key=lambda dtype: dtype.itemsize)
    return [term.to(kind) for term in terms]
