"""The depthwise convolution of the DARTS space, by whoever computes it fastest."""

from torch import Tensor, nn

from bdp_ext import _libraries, ops
from bdp_ext.spaces._compiled import takes

KERNELS, STRIDES, DILATIONS = (3, 5), (1, 2), (1, 2)


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
        self.has_kernel = (
            _libraries.loaded("cpu")
            and kernel in KERNELS
            and stride in STRIDES
            and dilation in DILATIONS
        )

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H', W'], in the memory format of the input."""
        if self.has_kernel and takes(input, self.weight):
            return ops.depthwise_conv2d(input, self.weight, *self.geometry)
        return super().forward(input)
