"""The candidate operations, by the names their authors gave them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Zero(nn.Module):
    """`none`: the edge that is not there."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x)


class ReluConvBn(nn.Sequential):
    """ReLU, convolution, batch norm: as a candidate without affine, since alpha scales its
    output."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, affine: bool = False
    ) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs, affine=affine),
        )


OPERATIONS: dict[str, Callable[[int], nn.Module]] = {
    "none": lambda channels: Zero(),
    "skip_connect": lambda channels: nn.Identity(),
    "nor_conv_1x1": lambda channels: ReluConvBn(channels, channels, 1),
    "nor_conv_3x3": lambda channels: ReluConvBn(channels, channels, 3),
    "avg_pool_3x3": lambda channels: nn.AvgPool2d(3, 1, 1, count_include_pad=False),
}
