"""What a DARTS cell is made of: its nodes, its edges and their candidates."""

from torch import nn

from bdp_ext.spaces.operations import (
    Builder,
    DilatedConv,
    NormedPool,
    SeparableConv,
    Zero,
    average_pool,
    skip,
)

NODES = 4
INPUTS = 2
EDGES = tuple((node, source) for node in range(NODES) for source in range(INPUTS + node))
"""(node, what it reads: 0 and 1 are the two cells before, 2 is node 0): the rows of alpha."""
INCOMING = tuple(INPUTS + node for node in range(NODES))


CANDIDATES: dict[str, Builder] = {
    "none": lambda c, stride, affine: Zero(stride),
    "max_pool_3x3": lambda c, stride, affine: NormedPool(nn.MaxPool2d(3, stride, 1), c, affine),
    "avg_pool_3x3": lambda c, stride, affine: NormedPool(average_pool(stride), c, affine),
    "skip_connect": skip,
    "sep_conv_3x3": lambda c, stride, affine: SeparableConv(c, 3, stride, affine),
    "sep_conv_5x5": lambda c, stride, affine: SeparableConv(c, 5, stride, affine),
    "dil_conv_3x3": lambda c, stride, affine: DilatedConv(c, 3, stride, 2, affine),
    "dil_conv_5x5": lambda c, stride, affine: DilatedConv(c, 5, stride, 2, affine),
}
