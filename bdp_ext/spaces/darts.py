"""The DARTS space (arXiv 1806.09055): a normal and a reduction cell, each of 4 nodes and 14
edges."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bdp_ext.errors import UserError
from bdp_ext.spaces.darts_cell import CANDIDATES, EDGES, INCOMING, INPUTS, NODES
from bdp_ext.spaces.darts_network import DartsNetwork, make_stem, readable
from bdp_ext.spaces.fused import Nodes, normed
from bdp_ext.spaces.genotype import Genotype, NodeInput
from bdp_ext.spaces.mixed_op import CandidateWeights, mixed_op, normalise_edges
from bdp_ext.spaces.operations import FactorizedReduce, ReluConvBn
from bdp_ext.spaces.protocols import DARTS, Protocols
from bdp_ext.spaces.space import IMAGENET_FROM, Edge, Names, Supernet

Choices = Sequence[Sequence[str]]
"""For each of the 14 edges of a cell the names of its candidates, as many on every edge."""

ALL: Choices = [list(CANDIDATES)] * len(EDGES)

STATES = ("k-2", "k-1", *map(str, range(NODES)))
"""Names of what a node can read: the two cells before, and the nodes."""


class DartsSupernetCell(nn.Module):
    """Four nodes, each the sum of mixed ops over both inputs and all nodes before it.

    Args:
        before_last, last: channels of the two cells before.
        channels: of every node.
        reduction: halve the resolution.
        after_reduction: the cell before did, so that the one before it is twice as large.
        channel_divisor: search in one of so many parts of the channels; 1: in all.
        choices: the candidates of each edge.
    """

    def __init__(
        self,
        before_last: int,
        last: int,
        channels: int,
        reduction: bool,
        after_reduction: bool,
        channel_divisor: int = 1,
        choices: Choices = ALL,
    ) -> None:
        super().__init__()
        self.reduction = reduction
        self.first = (
            FactorizedReduce(before_last, channels)
            if after_reduction
            else ReluConvBn(before_last, channels, 1)
        )
        self.second = ReluConvBn(last, channels, 1)
        self.edges = nn.ModuleList(
            mixed_op(
                {name: CANDIDATES[name] for name in names},
                channels,
                2 if reduction and source < INPUTS else 1,
                channel_divisor,
            )
            for (_, source), names in zip(EDGES, choices, strict=True)
        )
        self.nodes = Nodes(EDGES, self.edges)

    def forward(
        self,
        before_last: Tensor,
        last: Tensor,
        weights: CandidateWeights,
        edge_weights: Tensor | None = None,
        fused: bool = False,
    ) -> Tensor:
        """The outputs of the two cells before, weights [14, candidates], edge weights [14] or none
        -> [B, 4 * channels, H', W']."""
        if fused:
            inputs = normed(self.first, before_last), normed(self.second, last)
            return torch.cat(self.nodes(inputs, self.edges, weights, edge_weights), 1)
        states = [self.first(before_last), self.second(last)]
        for row, (node, source) in enumerate(EDGES):
            y = self.edges[row](states[source], *weights.of_edge(row))
            if edge_weights is not None:
                y = edge_weights[row] * y
            if source == 0:
                states.append(y)
            else:
                states[INPUTS + node] = states[INPUTS + node] + y
        return torch.cat(states[INPUTS:], 1)


class DartsSupernet(Supernet):
    """Stem, cells with a reduction after one and two thirds of them, pooling and a classifier.

    Args:
        channels: C of the first cells' nodes (16 in the paper).
        cells: all cells (8 in the paper).
        classes: outputs.
        channel_divisor: search in one of so many parts of the channels, with weighted edges
            (PC-DARTS); 1: in all.
        choices: the candidates left on each edge of the normal and of the reduction cell (P-DARTS).
        imagenet: with the stem that divides the resolution by eight (PC-DARTS, Sec. 4.3).

    Raises:
        UserError: fewer than three cells, of which two reduce.
    """

    def __init__(
        self,
        channels: int = 16,
        cells: int = 8,
        classes: int = 10,
        channel_divisor: int = 1,
        choices: tuple[Choices, Choices] = (ALL, ALL),
        imagenet: bool = False,
    ) -> None:
        super().__init__()
        if cells < 3:
            raise UserError(
                f"--cells {cells} leaves the DARTS space without a normal or a reduction cell; "
                "give at least 3."
            )
        self.stem, self.second_stem, before_last = make_stem(channels, imagenet)
        last, after_reduction = before_last, imagenet
        self.cells = nn.ModuleList()
        for number in range(cells):
            reduction = number in (cells // 3, 2 * cells // 3)
            channels *= 2 if reduction else 1
            self.cells.append(
                DartsSupernetCell(
                    before_last,
                    last,
                    channels,
                    reduction,
                    after_reduction,
                    channel_divisor,
                    choices[1 if reduction else 0],
                )
            )
            before_last, last, after_reduction = last, NODES * channels, reduction
        self.classifier = nn.Linear(last, classes)
        self.alpha_normal = Parameter(1e-3 * torch.randn(len(EDGES), len(choices[0][0])))
        self.alpha_reduce = Parameter(1e-3 * torch.randn(len(EDGES), len(choices[1][0])))
        if channel_divisor > 1:
            self.beta_normal = Parameter(1e-3 * torch.randn(len(EDGES)))
            self.beta_reduce = Parameter(1e-3 * torch.randn(len(EDGES)))
        self.channel_divisor = channel_divisor

    def alphas(self) -> list[Parameter]:
        alphas = [self.alpha_normal, self.alpha_reduce]
        return (
            alphas if self.channel_divisor == 1 else [*alphas, self.beta_normal, self.beta_reduce]
        )

    def forward(self, images: Tensor) -> Tensor:
        architecture = self.alphas()
        weights = [self.candidate_weights(alpha) for alpha in architecture[:2]]
        edge_weights: list[Tensor | None] = [None, None]
        if self.channel_divisor > 1:
            edge_weights = [normalise_edges(beta, INCOMING) for beta in architecture[2:]]
        before_last = self.stem(images)
        last = before_last if self.second_stem is None else self.second_stem(before_last)
        for cell in self.cells:
            kind = 1 if cell.reduction else 0
            before_last, last = (
                last,
                self.run_cell(
                    cell, before_last, last, weights[kind], edge_weights[kind], self.fused
                ),
            )
        logits: Tensor = self.classifier(last.mean((2, 3)))
        return logits


@dataclass(frozen=True)
class DartsSpace:
    """The space, as the search loop sees it.

    Attributes:
        imagenet: whether its supernets have ImageNet's stem.
    """

    name: ClassVar[str] = "darts"
    defaults: ClassVar[Mapping[str, Any]] = {"cells": 8, "weight_decay": 3e-4}
    retraining: ClassVar[Protocols] = DARTS

    imagenet: bool = False

    def for_images(self, size: int) -> "DartsSpace":
        """With ImageNet's stem where images are that large."""
        return replace(self, imagenet=size >= IMAGENET_FROM)

    def supernet(
        self, *, channels: int, cells: int, classes: int, channel_divisor: int = 1
    ) -> DartsSupernet:
        return DartsSupernet(channels, cells, classes, channel_divisor, imagenet=self.imagenet)

    def derive(self, alphas: Sequence[Tensor]) -> dict[str, str]:
        """Each node's two strongest inputs, with their strongest operation but `none`."""
        weights = [alpha.detach().softmax(1) for alpha in alphas[:2]]
        for kind, beta in enumerate(alphas[2:]):
            weights[kind] *= normalise_edges(beta.detach(), INCOMING).unsqueeze(1)
        normal, reduce = map(strongest_inputs, weights)
        return {"architecture": str(Genotype(normal, reduce))}

    def names(self, alphas: Sequence[Tensor]) -> Names:
        return name_rows(ALL, ALL)

    def network(
        self,
        architecture: str,
        *,
        channels: int,
        cells: int,
        classes: int,
        imagenet: bool,
        auxiliary: bool,
    ) -> DartsNetwork:
        genotype = readable(architecture)
        if cells < 3:
            raise UserError(
                f"--cells {cells} leaves a DARTS network without a normal or a reduction cell; "
                "give at least 3."
            )
        return DartsNetwork(
            genotype,
            channels=channels,
            cells=cells,
            classes=classes,
            imagenet=imagenet,
            auxiliary=auxiliary,
        )

    def graph(self, architecture: str) -> dict[str, list[Edge]]:
        genotype = readable(architecture)
        return {
            "normal": _arrows(genotype.normal, genotype.normal_concat),
            "reduce": _arrows(genotype.reduce, genotype.reduce_concat),
        }


def _arrows(inputs: list[NodeInput], concat: tuple[int, ...]) -> list[Edge]:
    """One cell; its inputs and its output have the names of the paper's figures."""
    names = ["c_{k-2}", "c_{k-1}", *map(str, range(len(inputs) // 2))]
    arrows = [
        (names[source], names[INPUTS + node], operation)
        for node in range(len(inputs) // 2)
        for operation, source in sorted(inputs[2 * node : 2 * node + 2], key=lambda edge: edge[1])
    ]
    return [*arrows, *((names[state], "c_{k}", "") for state in concat)]


def name_rows(normal: Choices, reduce: Choices) -> Names:
    """`Space.names`, given the candidates of each edge of both cells."""
    rows = [f"{STATES[source]}→{node}" for node, source in EDGES]
    return {
        kind: {row: list(names) for row, names in zip(rows, choices, strict=True)}
        for kind, choices in (("normal", normal), ("reduce", reduce))
    }


def strongest_inputs(weights: Tensor) -> list[NodeInput]:
    """The derivation of DARTS.

    Args:
        weights: [14, 8], softmax of alpha.

    Returns:
        Two (operation, source) for each node, in the order of their strength.
    """
    names = list(CANDIDATES)
    strength, best = weights[:, 1:].max(1)  # without `none`
    found: list[NodeInput] = []
    for node in range(NODES):
        rows = [row for row, (reader, _) in enumerate(EDGES) if reader == node]
        rows.sort(key=lambda row: -float(strength[row]))
        found += [(names[1 + int(best[row])], EDGES[row][1]) for row in rows[:2]]
    return found
