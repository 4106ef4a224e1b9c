"""P-DARTS (arXiv 1904.12760): the supernet grows deeper in stages, its edges lose candidates."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from bdp_ext.errors import UserError
from bdp_ext.methods.method import Epoch, Method, Past
from bdp_ext.spaces import Space, Supernet
from bdp_ext.spaces.darts import ALL, Choices, DartsSupernet, name_rows, strongest_inputs
from bdp_ext.spaces.darts_cell import CANDIDATES, EDGES
from bdp_ext.spaces.genotype import Genotype
from bdp_ext.spaces.mixed_op import MixedOp
from bdp_ext.spaces.space import Names

KEPT = (8, 5, 3)
"""Candidates of an edge in each stage."""
DEEPER = 6
"""Cells that a stage has more than the one before: 5, 11, 17."""
SKIP_DROPOUT = (0.0, 0.4, 0.7)
"""How often a skip connection is dropped at the beginning of each stage (the authors' CIFAR-10
setting)."""
DECAY = 0.2
"""By which the logarithm of that falls each epoch, once alpha moves."""
MOST_SKIPS = 2
"""Skip connections of the normal cell in the end."""


class PDarts(Method):
    """First order in three stages, each on a deeper supernet with fewer candidates on each edge.

    Skip connections, which train fastest and would take over, are dropped out less and less in the
    course of a stage. `--epochs` and `--alpha-start` are a stage's, `--cells` the first stage's.
    """

    name = "p-darts"
    stages = len(KEPT)
    defaults: Mapping[str, Any] = {
        "epochs": 25,
        "cells": 5,
        "batch_size": 96,
        "lr_min": 0.0,
        "alpha_lr": 6e-4,
    }
    alpha_start = Fraction(10, 25)

    def supernet(
        self, space: Space, *, channels: int, cells: int, classes: int, past: Past = ()
    ) -> Supernet:
        if space.name != "darts":
            raise UserError(
                f"--method p-darts drops candidates of the DARTS space and adds cells to it; "
                f"--space {space.name} has none of these: give --space darts or another method."
            )
        stage = len(past)
        normal, reduce = remaining(past)
        supernet = DartsSupernet(channels, cells + DEEPER * stage, classes, 1, (normal, reduce))
        if SKIP_DROPOUT[stage]:
            for mixed in supernet.modules():
                if isinstance(mixed, MixedOp):
                    for k, operation in enumerate(mixed.operations):
                        if isinstance(operation, nn.Identity):
                            mixed.operations[k] = nn.Dropout(SKIP_DROPOUT[stage])
        return supernet

    def begin_epoch(self, supernet: Supernet, epoch: Epoch) -> None:
        if epoch.number < epoch.alpha_start:
            left = (epoch.epochs - epoch.number - 1) / epoch.epochs
        else:
            left = math.exp(-DECAY * (epoch.number - epoch.alpha_start))
        for module in supernet.modules():
            if isinstance(module, nn.Dropout):
                module.p = SKIP_DROPOUT[epoch.stage] * left

    def derive(self, space: Space, alphas: Sequence[Tensor], past: Past = ()) -> dict[str, str]:
        """As the space does, but with at most two skip connections in the normal cell: the weakest
        ones give way to the next best."""
        normal, reduce = (
            over_all_candidates(alpha.detach().softmax(1), names)
            for alpha, names in zip(alphas, remaining(past), strict=True)
        )
        skip = list(CANDIDATES).index("skip_connect")
        while True:
            inputs = strongest_inputs(normal)
            skips = [
                EDGES.index((k // 2, source))
                for k, (name, source) in enumerate(inputs)
                if name == "skip_connect"
            ]
            if len(skips) <= MOST_SKIPS:
                return {"architecture": str(Genotype(inputs, strongest_inputs(reduce)))}
            normal[min(skips, key=lambda row: float(normal[row, skip])), skip] = 0

    def names(self, space: Space, alphas: Sequence[Tensor], past: Past = ()) -> Names:
        return name_rows(*remaining(past))


def remaining(past: Past) -> tuple[Choices, Choices]:
    """The candidates of each edge of the normal and of the reduction cell: the strongest ones of
    every stage that is over."""
    left: list[Choices] = [ALL, ALL]
    for kept, alphas in zip(KEPT[1:], past, strict=False):
        for kind, alpha in enumerate(alphas):
            best = alpha.topk(kept, 1).indices.sort(1).values.tolist()
            left[kind] = [[left[kind][row][k] for k in ks] for row, ks in enumerate(best)]
    return left[0], left[1]


def over_all_candidates(weights: Tensor, names: Choices) -> Tensor:
    """Weights [14, kept] as [14, 8], zero for the candidates that are gone."""
    whole = weights.new_zeros(len(names), len(CANDIDATES))
    order = list(CANDIDATES)
    columns = torch.tensor([[order.index(name) for name in row] for row in names])
    return whole.scatter(1, columns.to(weights.device), weights)
