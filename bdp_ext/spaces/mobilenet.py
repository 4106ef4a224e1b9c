"""The MobileNet-like space: 21 layers in a chain, each one of six MBConvs or, where the shapes
allow, none."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

from bdp_ext.errors import UserError
from bdp_ext.spaces.mixed_op import MixedOp
from bdp_ext.spaces.mobilenet_network import (
    IMAGENET,
    MB_CONVS,
    SKIP,
    SMALL,
    STAGES,
    STEM,
    MBConv,
    MobileNetNetwork,
    Skeleton,
    Slot,
    format_layers,
    parse_layers,
)
from bdp_ext.spaces.operations import Builder, Zero
from bdp_ext.spaces.protocols import MOBILENET, Protocols
from bdp_ext.spaces.space import IMAGENET_FROM, Edge, Names, Supernet

LAST_SIZE = 4
"""What is left of a smaller image before the pooling, or more. Of a single pixel and a batch of
two, batch norms see two values: the weights' gradient in float32 was 55 times that in float64."""


def candidates(slot: Slot) -> dict[str, Builder]:
    """The candidates of one layer."""

    def mb_conv(kernel: int, expansion: int) -> Builder:
        return lambda inputs, stride, affine: MBConv(
            inputs, slot.outputs, kernel, expansion, stride, affine
        )

    found = {name: mb_conv(*which) for name, which in MB_CONVS.items()}
    if slot.repeats:
        found[SKIP] = lambda inputs, stride, affine: Zero()  # the layer's shortcut is what is left
    return found


class Layer(nn.Module):
    """A mixed op and, where the shapes allow, the shortcut around it.

    The shortcut is the layer's and `skip` adds nothing, as in ProxylessNAS's public supernet.
    Since the weights sum to one this is the mix of residual MBConvs and the identity:
    x + sum_k w_k MBConv_k(x) = sum_k w_k (x + MBConv_k(x)) + w_skip x.
    """

    def __init__(self, slot: Slot) -> None:
        super().__init__()
        self.mixed = MixedOp(candidates(slot), slot.inputs, slot.stride)
        self.repeats = slot.repeats

    def forward(
        self, x: Tensor, weights: Tensor, computed: Collection[int] | None = None
    ) -> Tensor:
        """As `MixedOp`: x [B, C, H, W], weights [candidates] -> [B, C', H', W']."""
        y: Tensor = self.mixed(x, weights, computed)
        return x + y if self.repeats else y


class MobileNetSupernet(Supernet):
    """The skeleton with a mixed op in every place.

    Batch norms of candidates are not affine, those of the skeleton are.

    Args:
        channels: of the stem (32: the published widths).
        cells: layers of each stage but the last, which has one (4: the published 21 layers).
        classes: outputs.
        halvings: of the resolution (`Skeleton.of`).
    """

    def __init__(
        self, channels: int = STEM, cells: int = 4, classes: int = 1000, halvings: int = IMAGENET
    ) -> None:
        super().__init__()
        skeleton = Skeleton.of(channels, cells, halvings)
        self.stem = skeleton.make_stem()
        self.layers = nn.ModuleList(Layer(slot) for slot in skeleton.slots)
        self.head = skeleton.make_head()
        self.classifier = nn.Linear(skeleton.head, classes)
        repeats = sum(slot.repeats for slot in skeleton.slots)
        self.alpha_repeat = (
            Parameter(1e-3 * torch.randn(repeats, len(MB_CONVS) + 1)) if repeats else None
        )
        self.alpha_first = Parameter(1e-3 * torch.randn(len(STAGES), len(MB_CONVS)))

    def alphas(self) -> list[Parameter]:
        """Of the layers that may be left out [layers, 7], where there are any, and of the first
        ones of the stages [6, 6]."""
        return [alpha for alpha in (self.alpha_repeat, self.alpha_first) if alpha is not None]

    def forward(self, images: Tensor) -> Tensor:
        first = self.candidate_weights(self.alpha_first)
        repeated = first if self.alpha_repeat is None else self.candidate_weights(self.alpha_repeat)
        rows, repeated_rows = count(), count()
        x = self.stem(images)
        for layer in self.layers:
            if layer.repeats:
                x = layer(x, *repeated.of_edge(next(repeated_rows)))
            else:
                x = layer(x, *first.of_edge(next(rows)))
        logits: Tensor = self.classifier(self.head(x))
        return logits


@dataclass(frozen=True)
class MobileNetSpace:
    """The space, as the search loop sees it.

    Attributes:
        halvings: of the resolution in its supernets.
    """

    name: ClassVar[str] = "mobilenet"
    # Epochs, batch and split: BDP (arXiv 2312.14200), Sec. 4.3. Weight decay, and the learning rate
    # that is everybody's default here: ProxylessNAS's public search.
    defaults: ClassVar[Mapping[str, Any]] = {
        "channels": STEM,
        "cells": 4,
        "epochs": 30,
        "batch_size": 640,
        "train_share": 0.8,
        "weight_decay": 4e-5,
    }
    retraining: ClassVar[Protocols] = MOBILENET

    halvings: int = IMAGENET

    def for_images(self, size: int) -> "MobileNetSpace":
        """Strides as `network` chooses them, and fewer for images under 32 pixels."""
        if size >= IMAGENET_FROM:
            return replace(self, halvings=IMAGENET)
        possible = (max(size, LAST_SIZE) // LAST_SIZE).bit_length() - 1
        return replace(self, halvings=min(SMALL, possible))

    def supernet(
        self, *, channels: int, cells: int, classes: int, channel_divisor: int = 1
    ) -> MobileNetSupernet:
        if channel_divisor > 1:
            raise UserError(
                "PC-DARTS needs edges that keep their channels, which the MobileNet-like space "
                "does not have; give another --method or another --space."
            )
        return MobileNetSupernet(channels, cells, classes, self.halvings)

    def derive(self, alphas: Sequence[Tensor]) -> dict[str, str]:
        """The strongest candidate of each layer."""
        names = [*MB_CONVS, SKIP]
        rows = {alpha.shape[1]: [names[k] for k in alpha.argmax(1).tolist()] for alpha in alphas}
        first, repeats = rows[len(MB_CONVS)], rows.get(len(names), [])
        a_stage = len(repeats) // (len(STAGES) - 1)
        stages = [
            [name, *repeats[number * a_stage : (number + 1) * a_stage]]
            for number, name in enumerate(first)
        ]
        return {"architecture": format_layers(stages)}

    def names(self, alphas: Sequence[Tensor]) -> Names:
        """Layers are numbered as stage.layer; the first of a stage cannot be left out."""
        first = {f"{stage}.1": list(MB_CONVS) for stage in range(1, len(STAGES) + 1)}
        a_stage = len(alphas[0]) // (len(STAGES) - 1) if len(alphas) > 1 else 0
        repeats = {
            f"{stage}.{layer}": [*MB_CONVS, SKIP]
            for stage in range(1, len(STAGES))
            for layer in range(2, a_stage + 2)
        }
        return (
            {"repeated layers": repeats, "first layers": first}
            if repeats
            else {"first layers": first}
        )

    def network(
        self,
        architecture: str,
        *,
        channels: int,
        cells: int,
        classes: int,
        imagenet: bool,
        auxiliary: bool,
    ) -> MobileNetNetwork:
        """The network of an architecture, with affine batch norms.

        Args:
            architecture: as `derive` writes it.
            channels: of the stem (32: the published widths).
            cells: layers a stage, which must be the architecture's.
            classes: outputs.
            imagenet: divide the resolution by 32; otherwise by 8: stem and first stage keep it.
            auxiliary: must be False; a chain of this kind is trained without.

        Raises:
            ValueError: no such architecture.
            UserError: another depth, or an auxiliary head is asked for.
        """
        stages = parse_layers(architecture)
        if len(stages[0]) != cells:
            raise UserError(
                f"--cells {cells} is not the depth of this MobileNet-like architecture, which has "
                f"{len(stages[0])} layers a stage; give --cells {len(stages[0])}."
            )
        if auxiliary:
            raise UserError("a MobileNet-like network has no auxiliary head; train it without.")
        halvings = IMAGENET if imagenet else SMALL
        return MobileNetNetwork(stages, channels=channels, classes=classes, halvings=halvings)

    def graph(self, architecture: str) -> dict[str, list[Edge]]:
        names = [name for stage in parse_layers(architecture) for name in stage]
        return {"layers": [(str(i), str(i + 1), name) for i, name in enumerate(names)]}
