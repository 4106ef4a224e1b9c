"""NAS-Bench-201 (arXiv 2001.00326): one cell of 4 nodes and 6 edges, stacked in three stages."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bdp_ext.errors import UserError
from bdp_ext.spaces.fused import Nodes
from bdp_ext.spaces.mixed_op import mixed_op, normalise_edges
from bdp_ext.spaces.nas_bench_201_cell import (
    CANDIDATES,
    EDGES,
    INCOMING,
    format_cell,
    parse_cell,
)
from bdp_ext.spaces.nas_bench_201_network import NasBench201Network, Reduction, stem
from bdp_ext.spaces.protocols import NAS_BENCH_201
from bdp_ext.spaces.space import Edge, Names, Supernet


class Cell(nn.Module):
    """Four nodes; each is the sum of mixed ops over all nodes before it."""

    def __init__(self, channels: int, part: int = 1) -> None:
        super().__init__()
        self.edges = nn.ModuleList(mixed_op(CANDIDATES, channels, part=part) for _ in EDGES)
        self.nodes = Nodes(EDGES, self.edges)

    def forward(
        self, x: Tensor, weights: Tensor, strengths: Tensor | None = None, fused: bool = False
    ) -> Tensor:
        """x [B, C, H, W], weights [6, 5], strengths of the edges [6] or none -> [B, C, H, W]."""
        if fused:
            last: Tensor = self.nodes([x], self.edges, weights, strengths)[-1]
            return last
        nodes = [x]
        for row, (node, source) in enumerate(EDGES):
            y = self.edges[row](nodes[source], weights[row])
            if strengths is not None:
                y = strengths[row] * y
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
        part: search in one `part`-th of the channels, with normalised edges (PC-DARTS); 1: in all.
    """

    def __init__(
        self, channels: int = 16, cells: int = 5, classes: int = 10, part: int = 1
    ) -> None:
        super().__init__()
        self.stem = stem(channels)
        stages: list[nn.Module] = []
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                stages.append(Reduction(width // 2, width))
            stages += [Cell(width, part) for _ in range(cells)]
        self.stages = nn.ModuleList(stages)
        self.last = nn.Sequential(nn.BatchNorm2d(4 * channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(4 * channels, classes)
        self.alpha = Parameter(1e-3 * torch.randn(len(EDGES), len(CANDIDATES)))
        self.beta = Parameter(1e-3 * torch.randn(len(EDGES))) if part > 1 else None

    def alphas(self) -> list[Parameter]:
        return [self.alpha] if self.beta is None else [self.alpha, self.beta]

    def forward(self, images: Tensor) -> Tensor:
        weights = self.alpha.softmax(1)
        strengths = None if self.beta is None else normalise_edges(self.beta, INCOMING)
        x = self.stem(images)
        for block in self.stages:
            if isinstance(block, Cell):
                x = self.through(block, x, weights, strengths, self.fused)
            else:
                x = block(x)
        logits: Tensor = self.classifier(self.last(x).mean((2, 3)))
        return logits


class NasBench201:
    """The space, as the search loop sees it."""

    name = "nas-bench-201"
    defaults: Mapping[str, Any] = {"cells": 5, "weight_decay": 5e-4}
    retraining = NAS_BENCH_201

    def for_images(self, size: int) -> "NasBench201":
        return self

    def supernet(
        self, *, channels: int, cells: int, classes: int, part: int = 1
    ) -> NasBench201Supernet:
        return NasBench201Supernet(channels, cells, classes, part)

    def derive(self, alphas: Sequence[Tensor]) -> dict[str, str]:
        """The strongest candidate of each edge; `none` may win, as in its authors' code."""
        alpha = alphas[0]  # the strength of an edge does not matter: every edge is kept
        names = list(CANDIDATES)
        strongest = alpha.argmax(1).tolist()
        # Beside it the cell with every edge: the best of the candidates after `none`.
        without_none = (alpha[:, 1:].argmax(1) + 1).tolist()
        return {
            "architecture": format_cell([names[k] for k in strongest]),
            "architecture_without_none": format_cell([names[k] for k in without_none]),
        }

    def names(self, alphas: Sequence[Tensor]) -> Names:
        return {"cell": {f"{source}→{node}": list(CANDIDATES) for node, source in EDGES}}

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
        operations = parse_cell(architecture)
        if imagenet:
            raise UserError("NAS-Bench-201 has no network for ImageNet; give --protocol cifar.")
        if auxiliary:
            raise UserError("a NAS-Bench-201 network has no auxiliary head; give --auxiliary 0.")
        return NasBench201Network(operations, channels, cells, classes)

    def graph(self, architecture: str) -> dict[str, list[Edge]]:
        edges = zip(EDGES, parse_cell(architecture), strict=True)
        return {"cell": [(str(source), str(node), name) for (node, source), name in edges]}
