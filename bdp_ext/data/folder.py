"""A folder with a folder per class: DIR/train/<class>/*, optionally DIR/test/<class>/*."""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bdp_ext.data import _memory
from bdp_ext.data.source import Source
from bdp_ext.errors import UserError

BILINEAR = Image.Resampling.BILINEAR
CHUNK = 32  # files a thread takes at a time
# Bytes below which decoding is mostly Python, so that threads only wait for each other (10,000
# CIFAR JPEGs on 2 busy cores: 1.2 s with one thread, 1.8 s with two).
SMALL_FILE = 4096
IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}  # and every name that starts with a dot


def open_folder(folder: Path, split: str) -> Source:
    """List the images of DIR/<split>; nothing is decoded yet.

    Classes are the folders of DIR/train in sorted order, images go by class, then by file name.

    Args:
        folder: DIR.
        split: "train" or "test".

    Raises:
        UserError: DIR or a part of it is not as described; the sentence names it and what to do.
    """
    train = _require_split(folder)
    classes = _class_folders(train)
    if len(classes) < 2:
        raise UserError(
            f"{train} holds only one class ({classes[0].name}): a search needs at least two."
        )
    test = folder / "test"
    if os.path.isdir(test):
        _compare_classes(train, classes, test, _class_folders(test))
    elif split == "test":
        raise UserError(f"{folder} has no folder 'test': put test images in {test}/<class>/.")

    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(c.name for c in classes):
        found = _images(folder / split / name)
        if split == "train":
            _require_two(folder / split / name, found)
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(f"{folder / split} holds no images: put some in its class folders.")
    return Source(
        labels=torch.tensor(labels),
        classes=tuple(c.name for c in classes),
        read=lambda index, size: decode([files[i] for i in index.tolist()], size),
        flip=True,
    )


def decode(files: list[Path], size: int | None) -> Tensor:
    """Decode images with several threads into one tensor, in the order given.

    Args:
        files: at least one.
        size: scale the shorter side to this and cut the middle (bilinear, antialiased); None: they
            must all have the same size already.

    Returns:
        [N, 3, H, W] uint8. Grey, palette and 16-bit images become RGB; transparency is dropped.

    Raises:
        UserError: a file that cannot be decoded, sizes that differ, more than fits into memory.
    """
    Image.init()  # every format's module, before threads race to load them
    height, width = _decode(files[0], size).shape[:2]
    _memory.require(len(files), height, width)
    images = torch.empty(len(files), 3, height, width, dtype=torch.uint8)
    out = images.permute(0, 2, 3, 1).numpy()

    def work(start: int) -> None:
        for i in range(start, min(start + CHUNK, len(files))):
            image = _decode(files[i], size)
            if image.shape != out.shape[1:]:
                raise UserError(
                    f"{files[i]} is {image.shape[1]}x{image.shape[0]} pixels and {files[0]} is "
                    f"{width}x{height}: give --image-size to bring all images to one size."
                )
            out[i] = image

    small = os.path.getsize(files[0]) < SMALL_FILE
    pool = ThreadPoolExecutor(1 if small else min(torch.get_num_threads(), os.cpu_count() or 1))
    try:
        # In order, so that of several bad files the first is the one reported.
        for _ in pool.map(work, range(0, len(files), CHUNK)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def _decode(path: Path, size: int | None) -> np.ndarray:
    """One image as [H, W, 3] uint8."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it readable or remove it."
        ) from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            if size is None:
                return np.asarray(_to_rgb(image))
            image.draft(None, (2 * size, 2 * size))  # decode a large JPEG at a fraction of its size
            return np.asarray(ImageOps.fit(_to_rgb(image), (size, size), BILINEAR))
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is not an image that can be read: remove it from the class folder."
        ) from None
    except Exception as error:  # a damaged file can raise anything, by format
        raise UserError(f"{path} is damaged ({error}): replace or remove it.") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image  # convert() would copy
    if image.mode.startswith("I;16"):  # convert() would clip 16 bits at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns
    return image.convert("RGB")


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden and system files."""
    try:
        with os.scandir(folder) as found:
            entries = [
                e for e in found if not e.name.startswith(".") and e.name.lower() not in IGNORED
            ]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): make it readable.") from error
    return sorted(entries, key=lambda e: e.name)


def _class_folders(folder: Path) -> list[Path]:
    entries = _entries(folder)
    classes = [Path(e.path) for e in entries if e.is_dir()]
    if not classes:
        found = f"{len(entries)} files" if entries else "nothing"
        raise UserError(
            f"{folder} holds no class folders ({found}): put the images in {folder}/<class>/."
        )
    return classes


def _images(folder: Path) -> list[Path]:
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():
            raise UserError(
                f"{entry.path} is a folder inside a class: put its images directly in {folder}."
            )
    return [Path(e.path) for e in entries]


def _require_two(folder: Path, images: list[Path]) -> None:
    if not images:
        raise UserError(f"{folder} holds no images: add images of this class or remove the folder.")
    if len(images) == 1:
        raise UserError(
            f"{folder} holds a single image ({images[0].name}), and the two levels of a search "
            "need one each: add images of this class or remove the folder."
        )


def _require_split(folder: Path) -> Path:
    """DIR/train, or the sentence that says what DIR is instead."""
    train = folder / "train"
    if not os.path.exists(folder):  # unlike Path's, os.path's tests never raise
        raise UserError(
            f"{folder} does not exist: give a folder that holds train/<class>/ with images."
        )
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is a file: give a folder that holds train/<class>/ with images.")
    if os.path.isdir(train):
        return train
    entries = _entries(folder)
    folders = [e for e in entries if e.is_dir()]
    classes = [e.name for e in folders if any(not inner.is_dir() for inner in _entries(Path(e)))]
    if classes:
        raise UserError(
            f"{folder} has no folder 'train', but holds class folders itself ({_some(classes)}): "
            f"move them into {train}."
        )
    found = _some([e.name for e in entries]) or "nothing"
    raise UserError(
        f"{folder} has no folder 'train' (found: {found}): put the images in {train}/<class>/."
    )


def _compare_classes(train: Path, classes: list[Path], test: Path, tested: list[Path]) -> None:
    expected, found = {c.name for c in classes}, {c.name for c in tested}
    if extra := sorted(found - expected):
        raise UserError(
            f"{test} holds classes that {train} does not ({_some(extra)}): make the two agree."
        )
    if lacking := sorted(expected - found):
        raise UserError(f"{test} lacks classes of {train} ({_some(lacking)}): make the two agree.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
