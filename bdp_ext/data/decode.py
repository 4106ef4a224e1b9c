"""Image files to pixels: one at a time, or all of a set with several threads."""

import io
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from bdp_ext.data import memory
from bdp_ext.errors import UserError

BILINEAR = Image.Resampling.BILINEAR
CHUNK = 32  # files a thread takes at a time

File = str | os.PathLike[str]


def decode(files: Sequence[File], size: int | None) -> Tensor:
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

    def read(file: File) -> np.ndarray:
        return read_image(file, to_rgb if size is None else lambda image: _whole(image, size))

    Image.init()  # every format's module, before threads race to load them
    height, width = read(files[0]).shape[:2]
    memory.require(len(files), height, width)
    images = torch.empty(len(files), 3, height, width, dtype=torch.uint8)
    out = images.permute(0, 2, 3, 1).numpy()

    def work(start: int) -> None:
        for i in range(start, min(start + CHUNK, len(files))):
            image = read(files[i])
            if image.shape != out.shape[1:]:
                raise UserError(
                    f"{files[i]} is {image.shape[1]}x{image.shape[0]} pixels and {files[0]} is "
                    f"{width}x{height}: give --image-size to bring all images to one size."
                )
            out[i] = image

    pool = ThreadPoolExecutor(threads())
    try:
        # In order, so that of several bad files the first is the one reported.
        for _ in pool.map(work, range(0, len(files), CHUNK)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    return images


def threads() -> int:
    """How many threads may decode: as many as torch may use, and no more than there are cores."""
    return min(torch.get_num_threads(), os.cpu_count() or 1)


def read_image(path: File, take: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """One image as [H, W, 3] uint8.

    Args:
        path: the file.
        take: from the opened image, whose pixels are not decoded yet, to the RGB image wanted.

    Raises:
        UserError: it cannot be read or decoded; names the file.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): make it readable or remove it."
        ) from error
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(take(image))
    except UnidentifiedImageError:
        raise UserError(
            f"{path} is not an image that can be read: remove it from the class folder."
        ) from None
    except Exception as error:  # a damaged file can raise anything, by format
        raise UserError(f"{path} is damaged ({error}): replace or remove it.") from error


def _whole(image: Image.Image, size: int) -> Image.Image:
    """The shorter side scaled to `size`, the middle of the longer one."""
    image.draft(None, (2 * size, 2 * size))  # decode a large JPEG at a fraction of its size
    return ImageOps.fit(to_rgb(image), (size, size), BILINEAR)


def to_rgb(image: Image.Image) -> Image.Image:
    """The decoded image in RGB, whatever it was."""
    if image.mode == "RGB":
        return image  # convert() would copy
    if image.mode.startswith("I;16"):  # convert() would clip 16 bits at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # straight to RGB warns
    return image.convert("RGB")
