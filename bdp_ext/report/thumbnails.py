"""The images that were pruned first and last, read back from the data."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from bdp_ext.data import read_some
from bdp_ext.errors import UserError
from bdp_ext.report.maps import COLUMNS, ImageRow
from bdp_ext.search.pruning_history import PruningRecord

SHOWN = 2 * COLUMNS
Samples = NDArray[np.int32]

SIDE = 64  # pixels at most


def pruned_images(settings: Mapping[str, Any], pruned: PruningRecord) -> list[ImageRow]:
    """The first images of the first pruning that took some, and the last ones of the last.

    Args:
        settings: of the search.
        pruned: one sample at least.

    Raises:
        UserError: the data is not there or not what it was.
    """
    some = pruned.taken.nonzero()[0]
    first, last = pruned.at(some[0]), pruned.at(some[-1])
    head = slice(first.start, min(first.stop, first.start + SHOWN))
    tail = slice(max(last.start, head.stop, last.stop - SHOWN), last.stop)
    rows = []
    for what, pruning, part in (("first", some[0], head), ("last", some[-1], tail)):
        if part.start < part.stop:
            voe = pruned.voe[part]
            score = "VoE" if settings["pruner"] == "bdp" else "score"
            title = (
                f"{what}, after epoch {pruned.epochs[pruning]}: "
                f"{score} {voe.min():.1e} to {voe.max():.1e}"
            )
            rows.append(_row(settings, title, pruned.samples[part], pruned.labels[part]))
    return rows


def _row(settings: Mapping[str, Any], title: str, samples: Samples, expected: Samples) -> ImageRow:
    index = torch.from_numpy(samples).long()
    images, labels, classes = read_some(
        settings["data"],
        index,
        image_size=settings["image_size"],
        limit=settings["limit_train"],
        subset=settings["subset"],
        seed=settings["seed"],
    )
    if labels.tolist() != expected.tolist():
        raise UserError(f"the images of {settings['data']} are not those that this search saw.")
    height, width = images.shape[2:]
    scale = SIDE / max(height, width)
    if scale < 1:
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return ImageRow(title, images, [classes[label] for label in labels.tolist()])
