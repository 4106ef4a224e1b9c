"""Sets of images, in memory as uint8 or in files: loaded, split between the levels, augmented,
normalised."""

from bdp_ext.data.augment import Augmentation, cutout, normalize
from bdp_ext.data.image_set import ImageSet, MemorySet
from bdp_ext.data.loading import NAMES, image_size, load, read_some
from bdp_ext.data.split import split_halves
from bdp_ext.data.streamed_set import StreamedSet

__all__ = [
    "NAMES",
    "Augmentation",
    "ImageSet",
    "MemorySet",
    "StreamedSet",
    "cutout",
    "image_size",
    "load",
    "normalize",
    "read_some",
    "split_halves",
]
