"""The two scales of an experiment: the paper's, and one for two CPU cores."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from bdp_ext.pruning import PRUNE
from bdp_ext.runs.settings import option
from bdp_ext.search.config import SearchConfig

Options = Mapping[str, Any]
"""Settings of one run, by the names of `SearchConfig` or `RetrainConfig`."""


@dataclass(frozen=True)
class DataSize:
    """A training set's images, their classes, and their height and width."""

    images: int
    classes: int
    pixels: int


@dataclass(frozen=True)
class Scale:
    """What an experiment's runs have in common.

    Attributes:
        name: as the command line spells it.
        data: the paper's data sets -> what the command line takes for them.
        sizes: of these.
        search: settings of every search, by the name of the space.
        methods: settings of every search, by the name of the method; they go before.
        on_imagenet: settings of the searches on ImageNet, by the name of the space.
        retrain: settings of every retraining, by the name of the space.
        shares: what each pruning takes from the two levels: the combinations of Table 3.
        eigenvalue_every: epochs between eigenvalues in Fig. 3.
        left_out: rows that are not run, by their labels.
        scaled_down: what differs from the paper, in sentences.
    """

    name: str
    data: Mapping[str, str]
    sizes: Mapping[str, DataSize]
    search: Mapping[str, Options]
    methods: Mapping[str, Options]
    on_imagenet: Mapping[str, Options]
    retrain: Mapping[str, Options]
    shares: tuple[tuple[float, float], ...]
    eigenvalue_every: int
    left_out: tuple[str, ...]
    scaled_down: tuple[str, ...]

    def search_options(self, own: Options) -> dict[str, Any]:
        """All settings of a search that names its data by the paper's name."""
        space, method = (own.get(name, getattr(SearchConfig, name)) for name in ("space", "method"))
        options = {**self.search.get(space, {}), **self.methods.get(method, {})}
        if own["data"] == "imagenet":
            options |= self.on_imagenet.get(space, {})
        return {**options, **own, "data": self.data[own["data"]]}

    def retrain_options(self, space: str, own: Options) -> dict[str, Any]:
        """All settings of a retraining but the architecture."""
        options = {**own, **self.retrain.get(space, {})}
        return {**options, "space": space, "data": self.data[own["data"]]}

    def alias(self, data: str) -> str:
        """The first name of the same data, so that equal runs get equal names."""
        return next(name for name in self.data if self.data[name] == self.data[data])

    def search_config(self, own: Options, seed: int = 0) -> SearchConfig:
        """The settings of a search, checked."""
        return SearchConfig.of(**self.search_options(own), seed=seed)

    def override(self, search: Options, retrain: Options) -> "Scale":
        """With other settings for every search and every retraining, the runs' own excepted."""
        if not (search or retrain):
            return self
        given = [f"{option(name)} {value}" for name, value in {**search, **retrain}.items()]
        spaces = dict.fromkeys(("nas-bench-201", "darts", "mobilenet"))
        return replace(
            self,
            search={space: {**self.search.get(space, {}), **search} for space in spaces},
            methods={
                method: {name: value for name, value in options.items() if name not in search}
                for method, options in self.methods.items()
            },
            retrain={space: {**self.retrain.get(space, {}), **retrain} for space in spaces},
            scaled_down=(*self.scaled_down, f"Set by --set: {', '.join(given)}."),
        )


def paper_scale(imagenet: str) -> Scale:
    """The paper's settings, which are `SearchConfig`'s and `RetrainConfig`'s.

    Args:
        imagenet: the folder of ImageNet's images.
    """
    share = {"subset": 0.125, "train_share": 0.8, "image_size": 224, "stream": True}
    return Scale(
        name="paper",
        data={
            "cifar10": "cifar10",
            "cifar100": "cifar100",
            "imagenet16-120": "imagenet16-120",
            "imagenet": imagenet,
        },
        sizes={
            "cifar10": DataSize(50_000, 10, 32),
            "cifar100": DataSize(50_000, 100, 32),
            "imagenet16-120": DataSize(151_700, 120, 16),
            "imagenet": DataSize(1_281_167, 1000, 224),
        },
        search={},
        methods={},
        on_imagenet={
            # PC-DARTS (arXiv 1907.05737), Sec. 4.3.
            "darts": {**share, "batch_size": 1024, "lr": 0.5, "alpha_lr": 6e-3, "alpha_start": 35},
            "mobilenet": share,
        },
        retrain={},
        # Five combinations, says Sec. 3.2.3, but not which: these are ours.
        shares=((PRUNE, PRUNE), (0.2, 0.2), (0.4, 0.4), (0.2, 0.4), (0.4, 0.2)),
        eigenvalue_every=1,
        left_out=(),
        scaled_down=(),
    )


def reduced_scale(folder: str) -> Scale:
    """Minutes a run on one CPU core.

    Epochs, interval, shares, caps and the split are the paper's; the supernet, the images and their
    number are small. An epoch then has a thirteenth of the paper's steps, and alpha's learning rate
    is ten times the paper's, so that alpha moves about as far. The unpruned search collapses to
    skip connections as the paper's does; docs/reproduce.md has the settings that were tried.

    Args:
        folder: CIFAR-10's images, in train/<class>/ and test/<class>/.
    """
    names = ("cifar10", "cifar100", "imagenet16-120", "imagenet")
    small = {"image_size": 16, "limit_train": 4000, "threads": 1, "alpha_lr": 3e-3}
    # Fewer epochs with as many prunings to an epoch: these spaces' supernets are slower.
    short = {**small, "limit_train": 2000, "epochs": 15, "interval": 3, "batch_size": 64}
    # 16x16 images are too small for DARTS's auxiliary head.
    tiny = {
        "protocol": "cifar",
        "image_size": 16,
        "limit_train": 4000,
        "threads": 1,
        "epochs": 6,
        "evaluate_every": 6,
        "auxiliary": 0.0,
    }
    return Scale(
        name="reduced",
        data=dict.fromkeys(names, folder),
        sizes=dict.fromkeys(names, DataSize(4000, 10, 32)),
        search={
            "nas-bench-201": {**small, "channels": 8, "cells": 1},
            "darts": {**short, "channels": 8, "cells": 3},
            "mobilenet": {**short, "channels": 8, "cells": 2, "lr": 0.025},
        },
        methods={
            "p-darts": {"epochs": 6, "alpha_start": 2},
            "pc-darts": {"alpha_start": 5, "lr": 0.025},
        },
        on_imagenet={},
        retrain={
            "darts": {**tiny, "channels": 8, "cells": 5},
            "mobilenet": {**tiny, "channels": 8, "cells": 2},
        },
        shares=((PRUNE, PRUNE),),
        eigenvalue_every=5,
        left_out=("DARTS(2nd) [26]",),
        scaled_down=(
            "Images: 4,000 of CIFAR-10 (2,000 in the DARTS and MobileNet-like spaces) at 16x16 "
            "pixels, whatever data set the paper searched.",
            "Supernets: 8 channels; NAS-Bench-201 one cell a stage (paper: 16 channels, five), "
            "DARTS three cells (eight), MobileNet-like two layers a stage (four).",
            "Alpha's learning rate 3e-3 (paper: 3e-4), as an epoch has a thirteenth of the steps.",
            "Epochs: 50 and a pruning every 5, as in the paper; DARTS and MobileNet-like spaces "
            "15 and every 3; retraining 6 epochs (paper: 250 to 600) of a small network at 16x16.",
            "Table 3: one combination of pruned shares (paper: five); Fig. 3: an eigenvalue every "
            "5 epochs.",
        ),
    )
