"""The network of a NAS-Bench-201 cell, as the benchmark trained it."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from bdp_ext.spaces.nas_bench_201_cell import CANDIDATES, EDGES
from bdp_ext.spaces.operations import Builder, ReluConvBn


class NasBench201Cell(nn.Module):
    """A cell with one operation an edge; `none` is no edge."""

    def __init__(
        self,
        operations: Sequence[str],
        channels: int,
        candidates: Mapping[str, Builder] = CANDIDATES,
    ) -> None:
        super().__init__()
        self.edges = nn.ModuleList(candidates[name](channels, 1, True) for name in operations)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        nodes = [x]
        for row, (node, source) in enumerate(EDGES):
            y = self.edges[row](nodes[source])
            if source == 0:
                nodes.append(y)
            else:
                nodes[node] = nodes[node] + y
        return nodes[-1]


class Reduction(nn.Module):
    """The residual block between stages: half the resolution, twice the channels. Not searched."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = ReluConvBn(inputs, outputs, 3, stride=2, affine=True)
        self.second = ReluConvBn(outputs, outputs, 3, affine=True)
        self.shortcut = nn.Sequential(nn.AvgPool2d(2, 2), nn.Conv2d(inputs, outputs, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.shortcut(x) + self.second(self.first(x))
        return y


def stem(channels: int) -> nn.Module:
    """Image to features."""
    conv = nn.Conv2d(3, channels, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(channels))


class NasBench201Network(nn.Module):
    """Stem, three stages of N cells with a residual reduction between them, and a classifier."""

    def __init__(
        self,
        operations: Sequence[str],
        channels: int = 16,
        cells: int = 5,
        classes: int = 10,
        candidates: Mapping[str, Builder] = CANDIDATES,
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = [stem(channels)]
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                blocks.append(Reduction(width // 2, width))
            blocks += [NasBench201Cell(operations, width, candidates) for _ in range(cells)]
        self.features = nn.Sequential(*blocks, nn.BatchNorm2d(4 * channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> logits [B, classes]."""
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits
