"""The dense 3x3 convolution, by whoever computes it fastest."""

from torch import Tensor, nn

from bdp_ext import ops
from bdp_ext.ops.functions import has_conv3x3
from bdp_ext.spaces.depthwise import takes

TILE = 4  # outputs along each axis that it computes together
FEWEST_TILES = 16


class Conv3x3(nn.Conv2d):
    """`nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)`: the same parameters, the same
    state_dict, the same numbers up to rounding.

    `bdp_ext.ops.conv3x3` computes where it wins, torch everywhere else. Who computes follows from
    the arguments alone and not from a timing, so that the same seed gives the same search, bit for
    bit, on any day: float32 in channels_last on the CPU, channels in multiples of 16, 16 tiles of
    4x4 outputs at least (fewer do not pay for the transform of the weights), half of which lie in
    the image. There forward and both gradients won for every shape measured, 1.4 to 2.8 times for
    the search's (`bench/bench_conv3x3.py`); beyond, small images of many channels lose.

    Args:
        inputs, outputs: channels.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=False)
        self.has_kernel = has_conv3x3(self.weight)

    def forward(self, input: Tensor) -> Tensor:
        """[B, I, H, W] -> [B, O, H, W], in the memory format of the input."""
        if self.has_kernel and takes(input, self.weight) and _wins(input):
            return ops.conv3x3(input, self.weight)
        return super().forward(input)


def _wins(input: Tensor) -> bool:
    batch, _, height, width = input.shape
    tiles = -(-height // TILE) * -(-width // TILE)
    return batch * tiles >= FEWEST_TILES and tiles * TILE**2 <= 2 * height * width
