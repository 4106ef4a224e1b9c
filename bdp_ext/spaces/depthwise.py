"""The depthwise convolution of the DARTS space, by whoever computes it fastest."""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from bdp_ext import ops
from bdp_ext.ops import libraries
from bdp_ext.ops.functions import has_depthwise_conv2d

Geometry = tuple[int, int, int]
"""Stride, padding and dilation, in both directions."""


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d(channels, channels, kernel, ..., groups=channels, bias=False)`: the same
    parameters, the same state_dict, the same numbers up to rounding.

    `bdp_ext.ops.depthwise_conv2d` computes where it wins, torch everywhere else. Who computes
    follows from the arguments alone and not from a timing, so that the same seed gives the same
    search, bit for bit, on any day. One line of a table is enough: float32 in channels_last on the
    CPU, a kernel of 3 or 5, stride 1 or 2, dilation 1 or 2. There forward and backward together
    won for every shape measured (`bench/bench_depthwise_conv2d.py`). The forward pass alone wins
    for the search's shapes with AVX-512; it loses a few of AVX2's (.6 of torch's speed for 256
    channels of 56 x 56 at stride 2, .85 for 4 and 12 channels), never what the gradients win.

    Args:
        channels: of input and output.
        kernel, stride, padding, dilation: in both directions.
    """

    def __init__(
        self, channels: int, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1
    ) -> None:
        super().__init__(
            channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False
        )
        self.geometry = (stride, padding, dilation)

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W'], in the memory format of the input."""
        return depthwise(input, self.weight, self.geometry)


def depthwise(input: Tensor, weight: Tensor, geometry: Geometry) -> Tensor:
    """The convolution of such a module: input [B, C, H, W], weight [C, 1, k, k]."""
    if _is_ours(input, weight, geometry):
        return ops.depthwise_conv2d(input, weight, *geometry)
    return conv2d(input, weight, None, *geometry, weight.shape[0])


def depthwise_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    geometry: Geometry,
    need_input: bool,
    need_weight: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of input and weight that are needed, given that of the output."""
    stride, padding, dilation = geometry
    if _is_ours(input, weight, geometry):
        found: tuple[Tensor, ...] = torch.ops.bdp_ext.depthwise_conv2d_backward(
            grad, input, weight, *geometry, need_input, need_weight
        )
    else:
        found = torch.ops.aten.convolution_backward(
            *(grad, input, weight, None, [stride] * 2, [padding] * 2, [dilation] * 2),
            *(False, [0, 0], weight.shape[0], [need_input, need_weight, False]),
        )
    return found[0] if need_input else None, found[1] if need_weight else None


def _is_ours(input: Tensor, weight: Tensor, geometry: Geometry) -> bool:
    stride, _, dilation = geometry
    return has_depthwise_conv2d(weight, stride, dilation) and takes(input, weight)


def takes(input: Tensor, weight: Tensor) -> bool:
    """Where a compiled convolution can compute at all; who wins there is each module's to say:
    float32 in channels_last on the CPU, and no autocast to do it in another type."""
    return (
        libraries.loaded("cpu")
        and input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and input.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )
