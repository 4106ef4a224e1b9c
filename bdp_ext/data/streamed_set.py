"""Images that stay in their files until a batch needs them: for sets larger than memory."""

import math
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bdp_ext.data.decode import BILINEAR, read_image, threads, to_rgb
from bdp_ext.data.image_set import ImageSet

CHUNK = 8  # files a thread takes at a time
AHEAD = 2  # batches under way at most, one a level

AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
TRIES = 10
"""A training crop has this share of the image's area and this ratio of width to height; after as
many tries that do not fit, it is the largest one in the middle. Source: Inception's crop, as
torchvision's RandomResizedCrop has it."""
KEPT = 224 / 256
"""Side of the middle that is kept without augmentation: 224 pixels of an image scaled to 256."""

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DecodingBatch:
    """A batch that threads are decoding."""

    index: Tensor
    draws: Tensor
    images: Tensor
    parts: list["Future[None]"]


@dataclass(frozen=True)
class StreamedSet(ImageSet):
    """Images decoded as they are asked for, by a few threads.

    `read` augments by a random crop scaled to `size` and, where `flip` says so, a mirror; without
    a generator it gives the middle. All randomness is drawn where `read` is called, a fixed amount
    for each image, so that threads change no result.

    Attributes:
        files: one an image.
        size: height and width of the images given.
        flip: whether a mirrored image is still of its class.
        device: of the images given.
    """

    files: Sequence[str]
    size: int
    flip: bool
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _ahead: list[DecodingBatch] = field(default_factory=list, init=False, repr=False, compare=False)

    @property
    def image_size(self) -> int:
        return self.size

    def read(self, index: Tensor, generator: torch.Generator | None) -> Tensor:
        draws = self._draw(len(index), generator)
        batch = self._take_ahead(index, draws) or self._start(index, draws)
        for part in batch.parts:  # in order: of several bad files the first is the one reported
            part.result()
        return batch.images.to(self.device, non_blocking=True)

    def prefetch(self, index: Tensor, generator: torch.Generator | None) -> None:
        if generator is not None:
            generator = generator.clone_state()
        self._ahead.append(self._start(index, self._draw(len(index), generator)))
        if len(self._ahead) > AHEAD:  # pruning changed what comes next
            for part in self._ahead.pop(0).parts:
                part.cancel()

    def to(self, device: torch.device) -> "StreamedSet":
        return replace(self, device=device)

    def checksum(self) -> int:
        """Of the labels and the files' names; not of the contents, so that a damaged file can be
        replaced in mid-run."""
        names = "\0".join("/".join(file.split(os.sep)[-2:]) for file in self.files)
        return zlib.crc32(names.encode(), zlib.crc32(self.labels.numpy().tobytes()))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        Image.init()  # every format's module, before threads race to load them
        return ThreadPoolExecutor(threads(), "decode")

    def _draw(self, images: int, generator: torch.Generator | None) -> Tensor:
        """[images, 4 * TRIES + 1] random numbers in [0, 1), or [images, 0] without a generator."""
        if generator is None:
            return torch.empty(images, 0)
        return torch.rand(images, 4 * TRIES + 1, generator=generator)

    def _take_ahead(self, index: Tensor, draws: Tensor) -> DecodingBatch | None:
        for place, batch in enumerate(self._ahead):
            if torch.equal(batch.index, index) and torch.equal(batch.draws, draws):
                return self._ahead.pop(place)
        return None

    def _start(self, index: Tensor, draws: Tensor) -> DecodingBatch:
        """Let the threads begin with a batch."""
        images = torch.empty(
            (len(index), 3, self.size, self.size),
            dtype=torch.uint8,
            pin_memory=self.device.type == "cuda",
        )
        out = images.permute(0, 2, 3, 1).numpy()
        files = [self.files[i] for i in index.tolist()]
        numbers = draws.tolist()

        def work(start: int) -> None:
            for i in range(start, min(start + CHUNK, len(files))):
                out[i] = self._decode(files[i], numbers[i])

        parts = [self._pool.submit(work, start) for start in range(0, len(files), CHUNK)]
        return DecodingBatch(index, draws, images, parts)

    def _decode(self, file: str, numbers: list[float]) -> np.ndarray:
        """One image [size, size, 3], by its random numbers or, where there are none, the middle."""

        def take(image: Image.Image) -> Image.Image:
            box = random_box(*image.size, numbers[:-1]) if numbers else middle_box(*image.size)
            return cut(image, box, self.size)

        pixels = read_image(file, take)
        return pixels[:, ::-1] if self.flip and numbers and numbers[-1] < 0.5 else pixels


def random_box(width: int, height: int, numbers: Sequence[float]) -> Box:
    """A training crop (left, top, right, bottom) of an image.

    Args:
        width, height: the image's, in pixels.
        numbers: 4 * TRIES in [0, 1).
    """
    low, high = (math.log(ratio) for ratio in RATIO)
    for start in range(0, len(numbers), 4):
        area, ratio, x, y = numbers[start : start + 4]
        pixels = width * height * (AREA[0] + (AREA[1] - AREA[0]) * area)
        aspect = math.exp(low + (high - low) * ratio)
        w, h = round(math.sqrt(pixels * aspect)), round(math.sqrt(pixels / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    aspect = min(max(width / height, RATIO[0]), RATIO[1])
    w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def middle_box(width: int, height: int) -> Box:
    """The middle square of an image, `KEPT` of its shorter side."""
    side = KEPT * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def cut(image: Image.Image, box: Box, size: int) -> Image.Image:
    """A box of an image that is not decoded yet, scaled to size x size (bilinear, antialiased)."""
    width, height = image.size
    left, top, right, bottom = box
    # Decode a large JPEG at a fraction of its size, at which the box still has twice the pixels.
    scale = 2 * size / min(right - left, bottom - top)
    image.draft(None, (math.ceil(width * scale), math.ceil(height * scale)))
    x, y = image.size[0] / width, image.size[1] / height
    box = (left * x, top * y, min(right * x, image.size[0]), min(bottom * y, image.size[1]))
    return to_rgb(image).resize((size, size), BILINEAR, box)
