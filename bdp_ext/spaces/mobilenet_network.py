"""The MobileNet-like network: a fixed skeleton, in which every layer is an MBConv or left out.

An architecture is written `k3e6|skip|k5e3|k7e6+...+k7e6`: stages joined by `+`, layers by `|`;
`k5e3` is an MBConv of kernel 5 and expansion 3.

Source: ProxylessNAS (arXiv 1812.00332), whose public supernet has these widths and strides.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bdp_ext.spaces.cost import Cost, cost
from bdp_ext.spaces.darts_network import drop_path

KERNELS = (3, 5, 7)
EXPANSIONS = (3, 6)
MB_CONVS = {f"k{kernel}e{expand}": (kernel, expand) for kernel in KERNELS for expand in EXPANSIONS}
"""Kernel and expansion of every searched MBConv."""
SKIP = "skip"

IMAGENET, SMALL = 5, 3
"""How often the resolution is halved: published, and for small images such as CIFAR's."""
STEM, FIRST, HEAD = 32, 16, 1280
STAGES = ((24, 2), (40, 2), (80, 2), (96, 1), (192, 2), (320, 1))
"""Channels of a stage, and the stride of its first layer; the last stage has one layer only."""


@dataclass(frozen=True)
class Slot:
    """The place of one searched layer.

    Attributes:
        repeats: not the first of its stage: stride and channels stay, so that the layer has a
            shortcut around it and may be left out.
    """

    inputs: int
    outputs: int
    stride: int
    repeats: bool


@dataclass(frozen=True)
class Skeleton:
    """What is not searched.

    Attributes:
        stem, first, head: channels of the 3x3 convolution, of the MBConv without expansion after
            it, and of the 1x1 convolution before the pooling.
        stride: of the stem.
        stages: the searched layers' places.
    """

    stem: int
    first: int
    head: int
    stride: int
    stages: tuple[tuple[Slot, ...], ...]

    @classmethod
    def of(cls, channels: int, cells: int, halvings: int = IMAGENET) -> "Skeleton":
        """The skeleton at a width and depth.

        Args:
            channels: of the stem; all widths go with it, in multiples of 8 (32: as published).
            cells: layers of each stage but the last (4: as published, 21 layers).
            halvings: of the resolution; with fewer than the published 5 the stem keeps it, then the
                first stage, and so on.
        """

        def width(published: int) -> int:
            return max(8, (published * channels + 4 * STEM) // (8 * STEM) * 8)

        strides = [2, *(stride for _, stride in STAGES)]
        halving = [place for place, stride in enumerate(strides) if stride == 2]
        for place in halving[: IMAGENET - halvings]:
            strides[place] = 1
        stages = []
        inputs = width(FIRST)
        for number, ((published, _), stride) in enumerate(zip(STAGES, strides[1:], strict=True)):
            outputs = width(published)
            repeats = 0 if number == len(STAGES) - 1 else cells - 1
            first = Slot(inputs, outputs, stride, repeats=False)
            stages.append((first, *[Slot(outputs, outputs, 1, repeats=True)] * repeats))
            inputs = outputs
        return cls(width(STEM), width(FIRST), width(HEAD), strides[0], tuple(stages))

    @property
    def slots(self) -> list[Slot]:
        """All places, in order."""
        return [slot for stage in self.stages for slot in stage]

    def make_stem(self) -> nn.Module:
        return nn.Sequential(
            *_convolution(3, self.stem, 3, self.stride),
            nn.ReLU6(inplace=True),
            MBConv(self.stem, self.first, 3, 1),
        )

    def make_head(self) -> nn.Module:
        """The last features, pooled: [B, C, H, W] -> [B, head]."""
        return nn.Sequential(
            *_convolution(self.slots[-1].outputs, self.head, 1),
            nn.ReLU6(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )


class MBConv(nn.Sequential):
    """Inverted bottleneck: 1x1 to `expansion` times the channels, depthwise, 1x1 to the outputs.

    A batch norm follows each convolution, ReLU6 the first two. Without expansion there is no first
    one. The shortcut is its layer's.

    Source: MobileNetV2 (arXiv 1801.04381), Table 1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        expansion: int,
        stride: int = 1,
        affine: bool = True,
    ) -> None:
        hidden = inputs * expansion
        expand = _convolution(inputs, hidden, 1, affine=affine) if expansion > 1 else []
        super().__init__(
            *expand,
            *[nn.ReLU6(inplace=True) for _ in expand[:1]],
            *_convolution(hidden, hidden, kernel, stride, groups=hidden, affine=affine),
            nn.ReLU6(inplace=True),
            *_convolution(hidden, outputs, 1, affine=affine),
        )


def _convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, affine: bool = True
) -> list[nn.Module]:
    """A convolution and its batch norm."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, affine=affine),
    ]


class FoundLayer(nn.Module):
    """An MBConv and, where the shapes allow, the shortcut around it."""

    def __init__(self, name: str, slot: Slot) -> None:
        super().__init__()
        self.mb_conv = MBConv(slot.inputs, slot.outputs, *MB_CONVS[name], slot.stride)
        self.shortcut = slot.repeats

    def forward(self, x: Tensor, dropped: float) -> Tensor:
        """[B, C, H, W] -> [B, C', H', W']."""
        y: Tensor = self.mb_conv(x)
        if not self.shortcut:
            return y
        return x + (drop_path(y, dropped) if dropped and self.training else y)


class MobileNetNetwork(nn.Module):
    """The network of an architecture.

    Args:
        stages: what `parse_layers` gives.
        channels: of the stem (32: the published widths).
        classes: outputs.
        halvings: of the resolution, `IMAGENET` or `SMALL`.

    Attributes:
        drop_path: probability of leaving a sample out of a layer that has a shortcut, set by the
            training loop as it goes on.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[str]],
        *,
        channels: int = STEM,
        classes: int = 1000,
        halvings: int = IMAGENET,
    ) -> None:
        super().__init__()
        self.drop_path = 0.0
        skeleton = Skeleton.of(channels, len(stages[0]), halvings)
        names = [name for stage in stages for name in stage]
        self.stem = skeleton.make_stem()
        self.layers = nn.ModuleList(
            FoundLayer(name, slot)
            for name, slot in zip(names, skeleton.slots, strict=True)
            if name != SKIP
        )
        self.head = skeleton.make_head()
        self.classifier = nn.Linear(skeleton.head, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> logits [B, classes]."""
        x = self.stem(images)
        for layer in self.layers:
            x = layer(x, self.drop_path)
        logits: Tensor = self.classifier(self.head(x))
        return logits


def format_layers(stages: Sequence[Sequence[str]]) -> str:
    """The string form of an architecture."""
    return "+".join("|".join(stage) for stage in stages)


def parse_layers(text: str) -> list[list[str]]:
    """The layers of an architecture in its string form, stage by stage.

    Raises:
        ValueError: not such an architecture; says what is expected.
    """
    stages = [stage.split("|") for stage in text.split("+")]
    lengths = [len(stage) for stage in stages]
    if lengths != [lengths[0]] * (len(STAGES) - 1) + [1] or not all(
        name in MB_CONVS or (name == SKIP and place)
        for stage in stages
        for place, name in enumerate(stage)
    ):
        raise ValueError(
            f"{text!r} is no MobileNet-like architecture: expected {len(STAGES)} stages joined by "
            f"'+', each of equally many layers joined by '|' and the last of one; a layer is "
            f"{', '.join(MB_CONVS)} or, after the first of its stage, {SKIP}."
        )
    return stages


@dataclass(frozen=True)
class Costs:
    """What the network of each architecture costs, batch norms' scales and shifts included.

    Attributes:
        fixed: stem, head and classifier.
        layers: for each searched layer, the cost of every candidate.
    """

    fixed: Cost
    layers: list[dict[str, Cost]]

    def of(self, architecture: str) -> Cost:
        """The whole network of an architecture of this depth."""
        names = [name for stage in parse_layers(architecture) for name in stage]
        chosen = [layer[name] for layer, name in zip(self.layers, names, strict=True)]
        return sum(chosen, self.fixed)


def costs(*, channels: int, cells: int, classes: int, halvings: int, image_size: int) -> Costs:
    """Parameters and multiply-adds of every choice, for images of a height and width.

    Args:
        channels, cells, halvings: see `Skeleton.of`.
        classes: outputs of the classifier.
        image_size: pixels.
    """
    skeleton = Skeleton.of(channels, cells, halvings)
    layers = []
    with torch.device("meta"):  # counting needs no numbers
        fixed = cost(skeleton.make_stem(), 3, image_size)
        size = _divided(image_size, skeleton.stride)
        for slot in skeleton.slots:
            layer = {SKIP: Cost(0, 0)} if slot.repeats else {}
            for name, which in MB_CONVS.items():
                mb_conv = MBConv(slot.inputs, slot.outputs, *which, slot.stride)
                layer[name] = cost(mb_conv, slot.inputs, size)
            layers.append(layer)
            size = _divided(size, slot.stride)
        last = nn.Sequential(skeleton.make_head(), nn.Linear(skeleton.head, classes))
        fixed += cost(last, skeleton.slots[-1].outputs, size)
    return Costs(fixed, layers)


def _divided(size: int, stride: int) -> int:
    """Height or width after a padded convolution of odd kernel."""
    return -(-size // stride)
