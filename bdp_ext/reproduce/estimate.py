"""What a run will cost, before it runs."""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import nn

from bdp_ext.methods import find_method
from bdp_ext.pruning import batches_in_pass, samples_drawn
from bdp_ext.reproduce.scale import DataSize
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.search.config import SearchConfig
from bdp_ext.spaces import SPACES, Supernet, find_space


@dataclass(frozen=True)
class Estimate:
    """Of one run, or of several added up.

    Attributes:
        epochs: passes over a training level.
        samples: forwarded for updates, on both levels; as if no cap bound.
        disk: bytes of the checkpoint that stays.
    """

    epochs: int = 0
    samples: int = 0
    disk: int = 0

    def __add__(self, other: "Estimate") -> "Estimate":
        return Estimate(
            self.epochs + other.epochs, self.samples + other.samples, self.disk + other.disk
        )


def images_used(config: SearchConfig | RetrainConfig, size: DataSize) -> int:
    """Training images of a run, both levels'."""
    if config.subset is not None:
        return round(config.subset * size.images)
    return min(size.images, config.limit_train or size.images)


def level_sizes(config: SearchConfig, images: int) -> dict[str, list[int]]:
    """Live samples of each level in each epoch, as if no cap bound."""
    train = round(config.train_share * images)
    sizes: dict[str, list[int]] = {}
    for level, initial in (("train", train), ("valid", images - train)):
        live = sizes[level] = [initial]
        schedule = None
        if (pruner := config.pruner_class) and level in config.pruned_levels:
            schedule = replace(config.level_schedule(level), one_shot=pruner.one_shot)
        for epoch in range(1, config.all_epochs):
            gone = 0
            if schedule and epoch in schedule.prunings:
                gone = schedule.num_requested(epoch, live[-1], initial)
            live.append(live[-1] - gone)
    return sizes


def search_samples(config: SearchConfig, images: int) -> int:
    """Samples that a search forwards on both levels."""
    sizes = level_sizes(config, images)
    total = 0
    for epoch, (train, valid) in enumerate(zip(sizes["train"], sizes["valid"], strict=True)):
        steps = batches_in_pass(train, config.batch_size)
        total += samples_drawn(train, config.batch_size, steps)
        if epoch % config.epochs >= config.alpha_start:
            total += samples_drawn(valid, config.batch_size, steps)
    return total


def estimate_search(config: SearchConfig, size: DataSize) -> Estimate:
    """Of a search on a data set of this size."""
    images = images_used(config, size)
    supernet = _supernet_of(config, size)
    weights = sum(parameter.numel() for parameter in supernet.parameters())
    buffers = sum(buffer.numel() for buffer in supernet.buffers())
    # In float32: every parameter and its momentum (alpha has two), and of every sample its last k
    # errors and their variance.
    scores = 0
    if config.pruner_class:
        scores = (config.level_schedule("train").interval + 1) * images
    disk = 4 * (2 * weights + buffers + scores)
    return Estimate(config.all_epochs, search_samples(config, images), disk)


def estimate_retrain(config: RetrainConfig, size: DataSize) -> Estimate:
    """Of a retraining on a data set of this size; its architecture is but a stand-in."""
    network = _network(
        config.space,
        config.genotype,
        **config.size,
        classes=size.classes,
        auxiliary=config.auxiliary > 0,
    )
    weights = sum(parameter.numel() for parameter in network.parameters())
    # In float32: every parameter and its momentum in the checkpoint, and the parameters alone.
    disk = 4 * (3 + (config.ema > 0)) * weights
    return Estimate(config.epochs, config.epochs * images_used(config, size), disk)


def stand_in(config: SearchConfig, size: DataSize) -> str:
    """An architecture of the search's space, for what can be known before it is done."""
    alphas = [torch.zeros(alpha.shape) for alpha in _supernet_of(config, size).alphas()]
    return find_space(config.space).derive(alphas)["architecture"]


def _supernet_of(config: SearchConfig, size: DataSize) -> Supernet:
    return _supernet(
        config.space,
        config.method,
        config.image_size or size.pixels,
        channels=config.channels,
        cells=config.cells,
        classes=size.classes,
    )


@cache  # a supernet takes .1 s to build, and many runs have the same one
def _supernet(space: str, method: str, pixels: int, **sizes: Any) -> Supernet:
    with torch.device("meta"):
        return find_method(method)().supernet(find_space(space).for_images(pixels), **sizes)


@cache
def _network(space: str, genotype: str, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return SPACES[space].network(genotype, **settings)
