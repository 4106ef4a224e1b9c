"""The network of a NAS-Bench-201 cell, as the benchmark trained it."""

from collections.abc import Sequence

from torch import Tensor, nn

from bdp_ext.spaces.nas_bench_201 import CANDIDATES, EDGES, Reduction, stem


class FoundCell(nn.Module):
    """A cell with one operation an edge; `none` is no edge."""

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        self.edges = nn.ModuleList(CANDIDATES[name](channels, 1, True) for name in operations)

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


class NasBench201Network(nn.Module):
    """Stem, three stages of N cells with a residual reduction between them, and a classifier."""

    def __init__(
        self, operations: Sequence[str], channels: int = 16, cells: int = 5, classes: int = 10
    ) -> None:
        super().__init__()
        blocks: list[nn.Module] = [stem(channels)]
        for stage in range(3):
            width = channels * 2**stage
            if stage:
                blocks.append(Reduction(width // 2, width))
            blocks += [FoundCell(operations, width) for _ in range(cells)]
        self.features = nn.Sequential(*blocks, nn.BatchNorm2d(4 * channels), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(4 * channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        """images [B, 3, H, W] -> logits [B, classes]."""
        logits: Tensor = self.classifier(self.features(images).mean((2, 3)))
        return logits
