"""NAS-Bench-201 (arXiv 2001.00326): one cell of 4 nodes and 6 edges, stacked in three stages."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bdp_ext.errors import UserError
from bdp_ext.spaces.fused import Nodes
from bdp_ext.spaces.mixed_op import CandidateWeights, mixed_op, normalise_edges
from bdp_ext.spaces.nas_bench_201_cell import (
    CANDIDATES,
    EDGES,
    INCOMING,
    format_cell,
    parse_cell,
)
from bdp_ext.spaces.nas_bench_201_network import NasBench201Network, Reduction, stem
from bdp_ext.spaces.operations import Builder
from bdp_ext.spaces.protocols import NAS_BENCH_201
from bdp_ext.spaces.space import Edge, Names, Supernet


class NasBench201SupernetCell(nn.Module):
    """Four nodes; each is the sum of mixed ops over all nodes before it."""

    def __init__(
        self,
        channels: int,
        channel_divisor: int = 1,
        candidates: Mapping[str, Builder] = CANDIDATES,
    ) -> None:
        super().__init__()
        self.edges = nn.ModuleList(
            mixed_op(candidates, channels, channel_divisor=channel_divisor) for _ in EDGES
        )
        self.nodes = Nodes(EDGES, self.edges)

    def forward(
        self,
        x: Tensor,
        weights: CandidateWeights,
        edge_weights: Tensor | None = None,
        fused: bool = False,
    ) -> Tensor:
        """x [B, C, H, W], weights [6, candidates], edge weights [6] or none -> [B, C, H, W]."""
        if fused:
            last: Tensor = self.nodes([x], self.edges, weights, edge_weights)[-1]
            return last
        nodes = [x]
        for row, (node, source) in enumerate(EDGES):
            y = self.edges[row](nodes[source], *weights.of_edge(row))
            if edge_weights is not None:
                y = edge_weights[row] * y
            if source == 0:
                nodes.append(y)
            else:
                nodes[node] = nodes[node] + y
        return nodes[-1]


class NasBench201Supernet(Supernet):
    """Stem, three stages of N cells with a residual reduction between them, pooling and a
    classifier.

    Args:
        channels: C of the first stage (16 in the benchmark); 2C and 4C in the others.
        cells: N, the cells of a stage (5 in the benchmark).
        classes: outputs.
        channel_divisor: search in one of so many parts of the channels, with weighted edges
            (PC-DARTS); 1: in all.
        candidates: of every edge, by name.
    """

    def __init__(
        self,
        channels: int = 16,
        cells: int = 5,
        classes: int = 10,
        channel_divisor: int = 1,
        candidates: Mapping[str, Builder] = CANDIDATES,
    ) -> None:
        super().__init__()
        self.stem = stem(channels)
        stages: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                stages.append(Reduction(width // 2, width))
            stages += [
                NasBench201SupernetCell(width, channel_divisor, candidates) for _ in range(cells)
            ]
        self.stages = nn.ModuleList(stages)
        self.last = nn.Sequential(nn.BatchNorm2d(4 * channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(4 * channels, classes)
        self.alpha = Parameter(1e-3 * torch.randn(len(EDGES), len(candidates)))
        self.beta = Parameter(1e-3 * torch.randn(len(EDGES))) if channel_divisor > 1 else None

    def alphas(self) -> list[Parameter]:
        return [self.alpha] if self.beta is None else [self.alpha, self.beta]

    def forward(self, images: Tensor) -> Tensor:
        weights = self.candidate_weights(self.alpha)
        edge_weights = None if self.beta is None else normalise_edges(self.beta, INCOMING)
        x = self.stem(images)
        for block in self.stages:
            if isinstance(block, NasBench201SupernetCell):
                x = self.run_cell(block, x, weights, edge_weights, self.fused)
            else:
                x = block(x)
        logits: Tensor = self.classifier(self.last(x).mean((2, 3)))
        return logits


class NasBench201Space:
    """The space, as the search loop sees it.

    Attributes:
        candidates: of every edge, by name.
    """

    name = "nas-bench-201"
    candidates: Mapping[str, Builder] = CANDIDATES
    defaults: Mapping[str, Any] = {"cells": 5, "weight_decay": 5e-4}
    retraining = NAS_BENCH_201

    def for_images(self, size: int) -> "NasBench201Space":
        return self

    def supernet(
        self, *, channels: int, cells: int, classes: int, channel_divisor: int = 1
    ) -> NasBench201Supernet:
        return NasBench201Supernet(channels, cells, classes, channel_divisor, self.candidates)

    def derive(self, alphas: Sequence[Tensor]) -> dict[str, str]:
        """The strongest candidate of each edge; `none` may win, as in its authors' code."""
        alpha = alphas[0]  # the weight of an edge does not matter: every edge is kept
        names = list(self.candidates)
        found = {"architecture": format_cell([names[k] for k in alpha.argmax(1).tolist()])}
        if "none" in names:  # beside it the cell with every edge
            others = alpha.detach().clone()
            others[:, names.index("none")] = -torch.inf
            strongest = others.argmax(1).tolist()
            found["architecture_without_none"] = format_cell([names[k] for k in strongest])
        return found

    def names(self, alphas: Sequence[Tensor]) -> Names:
        return {"cell": {f"{source}→{node}": list(self.candidates) for node, source in EDGES}}

    def network(
        self,
        architecture: str,
        *,
        channels: int,
        cells: int,
        classes: int,
        imagenet: bool,
        auxiliary: bool,
    ) -> NasBench201Network:
        operations = parse_cell(architecture, self.candidates)
        if imagenet:
            raise UserError("NAS-Bench-201 has no network for ImageNet; give --protocol cifar.")
        if auxiliary:
            raise UserError("a NAS-Bench-201 network has no auxiliary head; give --auxiliary 0.")
        return NasBench201Network(operations, channels, cells, classes, self.candidates)

    def graph(self, architecture: str) -> dict[str, list[Edge]]:
        edges = zip(EDGES, parse_cell(architecture, self.candidates), strict=True)
        return {"cell": [(str(source), str(node), name) for (node, source), name in edges]}
