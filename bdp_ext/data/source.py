"""What every kind of data set offers: labels at once, images when asked for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from bdp_ext.data import memory

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Source:
    """A data set before its images are read.

    Attributes:
        labels: [N] int64.
        classes: their names.
        read: (index [M] int64, size or None) -> [M, 3, H, W] uint8.
        flip: whether a mirrored image is still of its class.
        files: one an image, where they lie in files; None: in memory already.
        mean, std: published constants of the pixels in 0..1; None: to be computed.
    """

    labels: Tensor
    classes: tuple[str, ...]
    read: Callable[[Tensor, int | None], Tensor]
    flip: bool
    files: Sequence[str] | None = None
    mean: Colour | None = None
    std: Colour | None = None


def in_memory(images: Tensor) -> Callable[[Tensor, int | None], Tensor]:
    """The `read` of a set that is in memory already: [N, 3, H, W] uint8."""

    def read(index: Tensor, size: int | None) -> Tensor:
        chosen = images if len(index) == len(images) else images[index]
        if size is None or chosen.shape[2:] == (size, size):
            return chosen
        memory.require(len(chosen), size, size)
        return F.interpolate(chosen, (size, size), mode="bilinear", antialias=True)

    return read


def statistics(images: Tensor) -> tuple[Colour, Colour]:
    """Mean and standard deviation of each channel, exact (from histograms), of pixels in 0..1.

    Args:
        images: [N, 3, H, W] uint8.

    Returns:
        Two triples; the deviation is at least 1/255, so that dividing by it is safe.
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        weight = channel.flatten().bincount(minlength=256).double() / channel.numel()
        mean.append(float(weight @ value))
        std.append(max(float(weight @ (value - mean[-1]) ** 2) ** 0.5, 1 / 255))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])
