"""The candidate operations' building blocks, in the form DARTS and NAS-Bench-201 gave them.

`affine` is the batch norm's: off in a supernet, where alpha scales the output, on in a found
network.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from bdp_ext.spaces.conv3x3 import Conv3x3
from bdp_ext.spaces.depthwise import DepthwiseConv2d, Geometry

Builder = Callable[[int, int, bool], nn.Module]
"""(channels, stride, affine) -> a candidate: [B, C, H, W] -> [B, C, H / stride, W / stride]. In a
chain it may change the channels."""


def batch_norm(channels: int, affine: bool) -> nn.BatchNorm2d:
    """With affine and running statistics, or with neither: a supernet is never evaluated by those,
    its weights and alphas change too fast."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=affine)


class Zero(nn.Module):
    """`none`: the edge that is not there."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class ReluConvBn(nn.Sequential):
    """ReLU, convolution, batch norm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, affine: bool = False
    ) -> None:
        super().__init__(
            nn.ReLU(),
            Conv3x3(inputs, outputs)
            if (kernel, stride) == (3, 1)
            else nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            batch_norm(outputs, affine),
        )


class FactorizedReduce(nn.Module):
    """Half the resolution by two 1x1 convolutions on pixels that lie one apart, then batch norm."""

    def __init__(self, inputs: int, outputs: int, affine: bool = False) -> None:
        super().__init__()
        self.even = nn.Conv2d(inputs, outputs // 2, 1, stride=2, bias=False)
        self.odd = nn.Conv2d(inputs, outputs - outputs // 2, 1, stride=2, bias=False)
        self.norm = batch_norm(outputs, affine)

    def forward(self, x: Tensor) -> Tensor:
        x = x.relu()
        # Sizes are even here; an odd one loses its last row in both, as in DARTS.
        y: Tensor = self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))
        return y


class DilatedConv(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(
        self, channels: int, kernel: int, stride: int, dilation: int, affine: bool = False
    ) -> None:
        super().__init__(
            nn.ReLU(),
            DepthwiseConv2d(channels, kernel, stride, dilation * (kernel // 2), dilation),
            nn.Conv2d(channels, channels, 1, bias=False),
            batch_norm(channels, affine),
        )

    @property
    def eps(self) -> float:
        """The batch norm's."""
        return cast(nn.BatchNorm2d, self[3]).eps

    @property
    def geometry(self) -> Geometry:
        """The depthwise convolution's."""
        return cast(DepthwiseConv2d, self[1]).geometry

    @property
    def kernels(self) -> tuple[Tensor, Tensor]:
        """The depthwise [C, 1, k, k] and the pointwise [C, C, 1, 1] weight."""
        return cast(nn.Conv2d, self[1]).weight, cast(nn.Conv2d, self[2]).weight

    def convolve(self, x: Tensor) -> Tensor:
        """Both convolutions, without the ReLU before and the batch norm behind."""
        return cast(Tensor, self[2](self[1](x)))


class SeparableConv(nn.Sequential):
    """Two rounds of ReLU, depthwise, pointwise and batch norm; the first one has the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = False) -> None:
        super().__init__(
            DilatedConv(channels, kernel, stride, 1, affine),
            DilatedConv(channels, kernel, 1, 1, affine),
        )


class NormedPool(nn.Sequential):
    """A 3x3 pool, then batch norm."""

    def __init__(self, pool: nn.Module, channels: int, affine: bool = False) -> None:
        super().__init__(pool, batch_norm(channels, affine))


def skip(channels: int, stride: int, affine: bool) -> nn.Module:
    """The input itself, or a factorized reduction where the cell reduces."""
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)


def average_pool(stride: int) -> nn.Module:
    """3x3 average that does not count the padding."""
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)
