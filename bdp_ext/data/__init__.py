"""Images held in memory as uint8: loaded, split between the levels, augmented, normalised."""

from bdp_ext.data.augment import Augmentation, cutout, normalize
from bdp_ext.data.image_set import NAMES, ImageSet, image_size, load
from bdp_ext.data.split import split_halves

__all__ = [
    "NAMES",
    "Augmentation",
    "ImageSet",
    "cutout",
    "image_size",
    "load",
    "normalize",
    "split_halves",
]
