"""Random crop, flip and cutout of a whole batch at once, and the normalisation in between."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """Zero-pad, cut a window of the old size at a random place, mirror half of the images.

    Attributes:
        pad: pixels of zero padding on each side; 0 turns the crop off.
        flip: whether to flip (digits must not).
    """

    pad: int
    flip: bool

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Augment a batch; every sample draws its own offset and flip.

        One gather does it all: 0.24 ms for 64x3x32x32 on one CPU thread (windows by `unfold`, then
        a flip: 0.39 ms).

        Args:
            images: [B, C, H, W], any dtype and device. Read only.
            generator: on the CPU, so that every device sees the same numbers.

        Returns:
            [B, C, H, W], same dtype and device.
        """
        if not (self.pad or self.flip):
            return images
        batch, channels, height, width = images.shape
        padded_width = width + 2 * self.pad
        top, left = torch.randint(2 * self.pad + 1, (2, batch, 1), generator=generator)
        column = torch.arange(width).expand(batch, width)
        if self.flip:
            flipped = torch.rand(batch, 1, generator=generator) < 0.5
            column = torch.where(flipped, width - 1 - column, column)
        rows = (top + torch.arange(height)) * padded_width  # [B, H]
        pixel = rows.to(images.device)[:, :, None] + (left + column).to(images.device)[:, None, :]
        padded = F.pad(images, (self.pad,) * 4).flatten(2)
        index = pixel.view(batch, 1, height * width).expand(batch, channels, height * width)
        return padded.gather(2, index).view(images.shape)


def cutout(images: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """Zero a square in each image, around a random pixel; what lies outside the image is lost.

    Args:
        images: [B, C, H, W] floating point, normalised: zero is the mean colour. Any device.
        side: of the square, in pixels.
        generator: on the CPU, so that every device sees the same numbers.

    Returns:
        [B, C, H, W], same dtype and device.

    Source: Cutout (arXiv 1708.04552), Sec. 3.2.
    """
    batch, _, height, width = images.shape
    inside = []
    for length in (height, width):
        first = torch.randint(length, (batch, 1), generator=generator) - side // 2
        place = torch.arange(length)
        inside.append((first <= place) & (place < first + side))
    rows, columns = inside  # [B, H], [B, W]
    blank = (rows[:, None, :, None] & columns[:, None, None, :]).to(images.device)
    return images.masked_fill(blank, 0)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Pixels in 0..255 to (pixel / 255 - mean) / std.

    Args:
        images: [B, C, H, W] uint8, any device.
        mean: C numbers, of the pixels in 0..1.
        std: C numbers, likewise.

    Returns:
        [B, C, H, W] float32, channels_last.
    """
    shift, scale = torch.tensor([[*mean], [*std]]).mul(255).to(images.device)[:, :, None, None]
    normalized: Tensor = (images - shift) / scale
    # Rearrange last: 0.15 ms for 64x3x32x32 on one thread; rearranging the uint8 first, 0.54 ms.
    return normalized.contiguous(memory_format=torch.channels_last)
