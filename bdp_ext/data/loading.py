"""Load a data set by its name or from a folder."""

import difflib
import os
from pathlib import Path

import torch

from bdp_ext.data import named
from bdp_ext.data.augment import Augmentation
from bdp_ext.data.decode import decode
from bdp_ext.data.folder import open_folder
from bdp_ext.data.image_set import ImageSet, MemorySet
from bdp_ext.data.source import Source, statistics
from bdp_ext.data.split import choose
from bdp_ext.data.streamed_set import StreamedSet
from bdp_ext.errors import UserError

NAMES = ("digits", "cifar10", "cifar100", "imagenet16-120")
SAMPLED = 1024
"""Images of a streamed set that its mean and deviation are computed from, evenly spread."""


def load(
    name_or_dir: str | os.PathLike[str],
    *,
    split: str = "train",
    root: Path | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    subset: float | None = None,
    stream: bool = False,
    seed: int = 0,
) -> ImageSet:
    """Load a data set.

    Args:
        name_or_dir: one of NAMES, or a folder that holds train/<class>/ (and test/<class>/ or
            val/<class>/).
        split: "train" or "test".
        root: where named sets lie and are downloaded to; None: $BDP_EXT_DATA or
            ~/.cache/bdp_ext.
        image_size: bring all images to this height and width. None: as they are.
        limit: keep this many samples, chosen at random, no class lost. None: all.
        subset: keep this share of them, likewise.
        stream: leave a folder's images on the disk and decode them as they are needed, cropped at
            random as is usual for ImageNet. Never chosen by itself: the same search would be
            another one on a machine with more memory.
        seed: of the choice.

    Raises:
        UserError: anything wrong with the name, the folder or its files.
        ValueError: `split` is neither "train" nor "test".
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', got {split!r}.")
    for option, value in (("--image-size", image_size), ("--limit-train", limit)):
        if value is not None and value < 1:
            raise UserError(f"{option} must be at least 1, got {value}.")
    if subset is not None and not 0 < subset <= 1:
        raise UserError(f"--subset must be above 0 and at most 1, got {subset}.")
    if limit is not None and subset is not None:
        raise UserError("give --limit-train or --subset, not both.")
    source = _open(os.fspath(name_or_dir), split, root or named.default_root())
    index = _chosen(source, limit, subset, seed)
    if stream:
        return _streamed(source, index, image_size)
    images = source.read(index, image_size)
    mean, std = (source.mean, source.std) if source.mean and source.std else statistics(images)
    pad = round(min(images.shape[2:]) / 8)  # CIFAR: 4 of 32, ImageNet16: 2 of 16, digits: 1 of 8
    augmentation = Augmentation(pad, source.flip)
    return MemorySet(source.labels[index], source.classes, mean, std, images, augmentation)


def image_size(name_or_dir: str | os.PathLike[str], root: Path | None = None) -> int:
    """The shorter side of a data set's first training image, in pixels.

    Raises:
        UserError: as `load`.
    """
    source = _open(os.fspath(name_or_dir), "train", root or named.default_root())
    return min(source.read(torch.tensor([0]), None).shape[2:])


def read_some(
    name_or_dir: str | os.PathLike[str],
    index: torch.Tensor,
    *,
    root: Path | None = None,
    image_size: int | None = None,
    limit: int | None = None,
    subset: float | None = None,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, tuple[str, ...]]:
    """A few training images of what `load` gives with the same arguments, without loading the
    others; nothing is downloaded.

    Args:
        index: [M] int64, positions in that set.

    Returns:
        The images [M, 3, H, W] uint8, their labels [M] int64, and the names of all classes.

    Raises:
        UserError: as `load`, and where the set is not there or has fewer images.
    """
    source = _open(os.fspath(name_or_dir), "train", root or named.default_root(), download=False)
    kept = _chosen(source, limit, subset, seed)
    if len(index) and int(index.max()) >= len(kept):
        raise UserError(f"{name_or_dir} has {len(kept)} images, and no number {int(index.max())}.")
    index = kept[index]
    return source.read(index, image_size), source.labels[index], source.classes


def _chosen(source: Source, limit: int | None, subset: float | None, seed: int) -> torch.Tensor:
    if subset is not None:
        limit = round(subset * len(source.labels))
    return choose(source.labels, limit, seed)


def _streamed(source: Source, index: torch.Tensor, image_size: int | None) -> StreamedSet:
    if source.files is None:
        raise UserError("--stream is for a folder of images; this set is held in memory anyway.")
    if image_size is None:
        raise UserError("--stream needs --image-size, the height and width to bring images to.")
    files = [source.files[i] for i in index.tolist()]
    sampled = min(SAMPLED, len(files))
    sample = [files[i * len(files) // sampled] for i in range(sampled)]
    mean, std = statistics(decode(sample, image_size))
    return StreamedSet(
        source.labels[index], source.classes, mean, std, files, image_size, source.flip
    )


def _open(name: str, split: str, root: Path, download: bool = True) -> Source:
    match name.lower():
        case "digits":
            return named.open_digits(split)
        case "cifar10":
            return named.open_cifar(named.CIFAR10, split, root, download)
        case "cifar100":
            return named.open_cifar(named.CIFAR100, split, root, download)
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
