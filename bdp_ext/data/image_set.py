"""A data set in memory, loaded by name or from a folder."""

import difflib
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bdp_ext.data import named
from bdp_ext.data.augment import Augmentation
from bdp_ext.data.folder import open_folder
from bdp_ext.data.source import Colour, Source, statistics
from bdp_ext.data.split import choose
from bdp_ext.errors import UserError

NAMES = ("digits", "cifar10", "cifar100", "imagenet16-120")


@dataclass(frozen=True)
class ImageSet:
    """Everything decoded, held in memory.

    Attributes:
        images: [N, 3, H, W] uint8, CPU.
        labels: [N] int64, CPU, positions in `classes`.
        classes: the names.
        mean, std: of each channel, pixels in 0..1. Published constants for CIFAR and ImageNet16,
            else computed from these images; normalise a test set with its training set's.
        augmentation: what suits the set: digits never flip.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: Colour
    std: Colour
    augmentation: Augmentation

    def fingerprint(self) -> int:
        """A checksum of images and labels."""
        checksum = zlib.crc32(self.labels.numpy().tobytes())
        return zlib.crc32(self.images.contiguous().numpy().data, checksum)


def load(
    name_or_dir: str | os.PathLike[str],
    *,
    split: str = "train",
    root: Path | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> ImageSet:
    """Load a data set.

    Args:
        name_or_dir: one of NAMES, or a folder that holds train/<class>/ (and test/<class>/).
        split: "train" or "test".
        root: where named sets lie and are downloaded to; None: $BDP_EXT_DATA or
            ~/.cache/bdp_ext.
        image_size: bring all images to this height and width. None: as they are.
        limit: keep this many samples, chosen at random, no class lost. None: all.
        seed: of that choice.

    Raises:
        UserError: anything wrong with the name, the folder or its files.
        ValueError: `split` is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
    for option, value in (("--image-size", image_size), ("--limit-train", limit)):
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1, got {value}.")
    source = _open(os.fspath(name_or_dir), split, root or named.default_root())
    index = choose(source.labels, limit, seed)
    images = source.read(index, image_size)
    mean, std = (source.mean, source.std) if source.mean and source.std else statistics(images)
    pad = round(min(images.shape[2:]) / 8)  # CIFAR: 4 of 32, ImageNet16: 2 of 16, digits: 1 of 8
    return ImageSet(
        images, source.labels[index], source.classes, mean, std, Augmentation(pad, source.flip)
    )


def image_size(name_or_dir: str | os.PathLike[str], root: Path | None = None) -> int:
    """The shorter side of a data set's first training image, in pixels.

    Raises:
        UserError: as `load`.
    """
    source = _open(os.fspath(name_or_dir), "train", root or named.default_root())
    return min(source.read(torch.tensor([0]), None).shape[2:])


def _open(name: str, split: str, root: Path) -> Source:
    match name.lower():
        case "digits":
            return named.open_digits(split)
        case "cifar10":
            return named.open_cifar(named.CIFAR10, split, root)
        case "cifar100":
            return named.open_cifar(named.CIFAR100, split, root)
        case "imagenet16-120":
            return named.open_imagenet16(split, root)
    path = Path(os.path.expanduser(name))
    if os.path.exists(path) or path.name != name:  # there, or written as a path
        return open_folder(path, split)
    close = difflib.get_close_matches(name.lower(), NAMES, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    raise UserError(
        f"no data set is called {name!r} and no folder either: "
        f"give a folder with train/<class>/ or one of {', '.join(NAMES)}{hint}"
    )
