"""Networks of a found DARTS cell, as public DARTS code trains them: for CIFAR and for ImageNet."""

import torch
from torch import Tensor, nn

from bdp_ext.spaces.darts_cell import CANDIDATES, INPUTS
from bdp_ext.spaces.genotype import Genotype, NodeInput, parse
from bdp_ext.spaces.operations import FactorizedReduce, ReluConvBn, average_pool


def readable(text: str) -> Genotype:
    """The genotype of a text, checked to be one that a network can be made of.

    Raises:
        ValueError: no genotype, an unknown operation, an input that comes later; says which.
    """
    genotype = parse(text)
    for name, inputs, concat in (
        ("normal", genotype.normal, genotype.normal_concat),
        ("reduce", genotype.reduce, genotype.reduce_concat),
    ):
        if not inputs or len(inputs) % 2:
            raise ValueError(f"{name}={inputs}: expected two inputs for each node.")
        for number, (operation, source) in enumerate(inputs):
            if operation not in CANDIDATES:
                raise ValueError(
                    f"{operation!r} in {name} is no operation of the DARTS space: expected one of "
                    f"{', '.join(CANDIDATES)}."
                )
            node = number // 2
            if not 0 <= source < INPUTS + node:
                raise ValueError(
                    f"({operation!r}, {source}) in {name} is an input of node {node}: expected a "
                    f"source from 0 to {INPUTS + node - 1}."
                )
        states = range(INPUTS + len(inputs) // 2)
        if not concat or not set(concat) <= set(states):
            raise ValueError(
                f"{name}_concat={concat}: expected states from {states[0]} to {states[-1]}."
            )
    return genotype


def _operation(name: str, channels: int, stride: int) -> nn.Module:
    """A candidate with affine batch norm; a pool, which has no weights, goes without."""
    if name == "max_pool_3x3":
        return nn.MaxPool2d(3, stride, 1)
    if name == "avg_pool_3x3":
        return average_pool(stride)
    return CANDIDATES[name](channels, stride, True)


def drop_path(x: Tensor, probability: float) -> Tensor:
    """Zero whole samples of x [B, C, H, W] with `probability`, scale the others up."""
    kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= probability
    return x * kept / (1 - probability)


class DartsCell(nn.Module):
    """A cell of a genotype; its nodes read two inputs each."""

    def __init__(
        self,
        inputs: list[NodeInput],
        concat: tuple[int, ...],
        before_last: int,
        last: int,
        channels: int,
        reduction: bool,
        after_reduction: bool,
    ) -> None:
        super().__init__()
        self.sources = [source for _, source in inputs]
        self.concat = concat
        self.first = (
            FactorizedReduce(before_last, channels, affine=True)
            if after_reduction
            else ReluConvBn(before_last, channels, 1, affine=True)
        )
        self.second = ReluConvBn(last, channels, 1, affine=True)
        self.operations = nn.ModuleList(
            _operation(name, channels, 2 if reduction and source < INPUTS else 1)
            for name, source in inputs
        )

    def forward(self, before_last: Tensor, last: Tensor, dropped: float) -> Tensor:
        """The outputs of the two cells before -> [B, nodes * channels, H', W']."""
        states = [self.first(before_last), self.second(last)]
        for left in range(0, len(self.sources), 2):
            pair = []
            for edge in (left, left + 1):
                operation = self.operations[edge]
                y = operation(states[self.sources[edge]])
                if dropped and self.training and not isinstance(operation, nn.Identity):
                    y = drop_path(y, dropped)
                pair.append(y)
            states.append(pair[0] + pair[1])
        return torch.cat([states[state] for state in self.concat], 1)


class AuxiliaryHead(nn.Sequential):
    """A classifier two thirds up the network, whose loss counts .4 in training.

    Args:
        stride: of the pooling, which leaves 2x2: 3 of 8x8 (CIFAR), 2 of 7x7 (ImageNet); smaller
            features are too small.
        last_norm: the second batch norm, which the authors' ImageNet network lacks.
    """

    def __init__(self, channels: int, classes: int, stride: int, last_norm: bool) -> None:
        super().__init__(
            nn.ReLU(),
            nn.AvgPool2d(5, stride, count_include_pad=False),
            nn.Conv2d(channels, 128, 1, bias=False),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.Conv2d(128, 768, 2, bias=False),
            nn.BatchNorm2d(768) if last_norm else nn.Identity(),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),  # 1x1 already at the published image sizes
            nn.Flatten(),
            nn.Linear(768, classes),
        )


class DartsNetwork(nn.Module):
    """Stacked cells of one genotype.

    Args:
        genotype: the two cells.
        channels: C of the first cells' nodes (36 on CIFAR, 48 on ImageNet).
        cells: all cells (20 on CIFAR, 14 on ImageNet).
        classes: outputs.
        imagenet: a stem that divides the resolution by eight.
        auxiliary: with the auxiliary head.

    Attributes:
        drop_path: probability, set by the training loop as it goes on.
    """

    def __init__(
        self,
        genotype: Genotype,
        *,
        channels: int = 36,
        cells: int = 20,
        classes: int = 10,
        imagenet: bool = False,
        auxiliary: bool = False,
    ) -> None:
        super().__init__()
        self.drop_path = 0.0
        self.stem, self.second_stem, before_last = make_stem(channels, imagenet)
        last, after_reduction = before_last, imagenet
        self.cells = nn.ModuleList()
        reductions = (cells // 3, 2 * cells // 3)
        self.auxiliary_at = reductions[1]
        for number in range(cells):
            reduction = number in reductions
            channels *= 2 if reduction else 1
            inputs = genotype.reduce if reduction else genotype.normal
            concat = genotype.reduce_concat if reduction else genotype.normal_concat
            self.cells.append(
                DartsCell(inputs, concat, before_last, last, channels, reduction, after_reduction)
            )
            before_last, last, after_reduction = last, len(concat) * channels, reduction
            if number == self.auxiliary_at:
                wide = last
        self.auxiliary = (
            AuxiliaryHead(wide, classes, 2 if imagenet else 3, last_norm=not imagenet)
            if auxiliary
            else None
        )
        self.classifier = nn.Linear(last, classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """images [B, 3, H, W] -> logits [B, classes]; while it trains with the auxiliary head,
        these and the head's."""
        before_last = self.stem(images)
        last = before_last if self.second_stem is None else self.second_stem(before_last)
        auxiliary = None
        for number, cell in enumerate(self.cells):
            before_last, last = last, cell(before_last, last, self.drop_path)
            if number == self.auxiliary_at and self.auxiliary is not None and self.training:
                auxiliary = self.auxiliary(last)
        logits: Tensor = self.classifier(last.mean((2, 3)))
        return logits if auxiliary is None else (logits, auxiliary)


def make_stem(channels: int, imagenet: bool) -> tuple[nn.Module, nn.Module | None, int]:
    """First stem, second one where there is one, and their channels.

    Args:
        channels: C of the first cells' nodes.
        imagenet: divide the resolution by eight.
    """
    if not imagenet:
        wide = 3 * channels
        conv = nn.Conv2d(3, wide, 3, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(wide)), None, wide
    first = nn.Sequential(
        nn.Conv2d(3, channels // 2, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(channels // 2),
        nn.ReLU(),
        nn.Conv2d(channels // 2, channels, 3, 2, padding=1, bias=False),
        nn.BatchNorm2d(channels),
    )
    return first, ReluConvBn(channels, channels, 3, 2, affine=True), channels
