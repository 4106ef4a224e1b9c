"""A data set as the loops see it, and the one that is held in memory."""

import zlib
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bdp_ext.data.augment import Augmentation
from bdp_ext.data.source import Colour


@dataclass(frozen=True)
class ImageSet(ABC):
    """Images that are read in batches, and what is known of all of them.

    Attributes:
        labels: [N] int64, CPU, positions in `classes`.
        classes: the names.
        mean, std: of each channel, pixels in 0..1. Published constants for CIFAR and ImageNet16,
            else computed from these images; normalise a test set with its training set's.
    """

    labels: Tensor
    classes: tuple[str, ...]
    mean: Colour
    std: Colour

    @property
    @abstractmethod
    def image_size(self) -> int:
        """The shorter of height and width, in pixels."""

    @abstractmethod
    def read(self, index: Tensor, generator: torch.Generator | None) -> Tensor:
        """The images of a batch.

        Args:
            index: [B] int64, CPU.
            generator: on the CPU; augments the images. None: as they are.

        Returns:
            [B, 3, H, W] uint8, on the set's device.

        Raises:
            UserError: a file that cannot be read or decoded; names it.
        """

    def prefetch(self, index: Tensor, generator: torch.Generator | None) -> None:  # noqa: B027
        """Say what the next `read` with this generator will ask for, so that it can begin early;
        changes no result, and the generator stays as it is."""

    @abstractmethod
    def to(self, device: torch.device) -> "ImageSet":
        """This set with the images that it gives on a device."""

    @abstractmethod
    def checksum(self) -> int:
        """A number that tells this set from others."""


@dataclass(frozen=True)
class MemorySet(ImageSet):
    """Everything decoded, held in memory.

    Attributes:
        images: [N, 3, H, W] uint8.
        augmentation: what suits the set: digits never flip.
    """

    images: Tensor
    augmentation: Augmentation

    @property
    def image_size(self) -> int:
        return min(self.images.shape[2:])

    def read(self, index: Tensor, generator: torch.Generator | None) -> Tensor:
        images = self.images[index.to(self.images.device)]
        return images if generator is None else self.augmentation(images, generator)

    def to(self, device: torch.device) -> "MemorySet":
        return replace(self, images=self.images.to(device))

    def checksum(self) -> int:
        labels = zlib.crc32(self.labels.numpy().tobytes())
        return zlib.crc32(self.images.cpu().contiguous().numpy().data, labels)
