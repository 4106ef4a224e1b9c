"""The data sets that have a name: digits, CIFAR, downsampled ImageNet."""

import http.client
import importlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bdp_ext.data import pickles
from bdp_ext.data.source import Colour, Source, in_memory
from bdp_ext.errors import UserError

DIGITS_TRAIN = 1437  # of 1797
IMAGENET16_CLASSES = 120


def default_root() -> Path:
    """Where downloads go: $BDP_EXT_DATA, else ~/.cache/bdp_ext."""
    return Path(os.path.expanduser(os.environ.get("BDP_EXT_DATA") or "~/.cache/bdp_ext"))


def open_digits(split: str) -> Source:
    """scikit-learn's digits: 8x8 grey, as RGB; the first 1,437 train, the other 360 test."""
    data = _package("sklearn.datasets", "digits", "scikit-learn").load_digits()
    part = slice(DIGITS_TRAIN) if split == "train" else slice(DIGITS_TRAIN, None)
    grey = torch.from_numpy(data.images[part]).mul(255 / 16).round().to(torch.uint8)
    return Source(
        labels=torch.from_numpy(data.target[part]).long(),
        classes=tuple(str(digit) for digit in data.target_names),
        read=in_memory(grey[:, None].repeat(1, 3, 1, 1)),
        flip=False,
    )


@dataclass(frozen=True)
class Cifar:
    """One of the two CIFAR sets: its name in torchvision, its files, its published constants."""

    torchvision_class: str
    folder: str
    url: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    label_key: str
    names_file: str
    names_key: str
    mean: Colour
    std: Colour


CIFAR10 = Cifar(
    torchvision_class="CIFAR10",
    folder="cifar-10-batches-py",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    test=("test_batch",),
    label_key="labels",
    names_file="batches.meta",
    names_key="label_names",
    mean=(125.3 / 255, 123.0 / 255, 113.9 / 255),
    std=(63.0 / 255, 62.1 / 255, 66.7 / 255),
)
CIFAR100 = Cifar(
    torchvision_class="CIFAR100",
    folder="cifar-100-python",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    train=("train",),
    test=("test",),
    label_key="fine_labels",
    names_file="meta",
    names_key="fine_label_names",
    mean=(129.3 / 255, 124.1 / 255, 112.4 / 255),
    std=(68.2 / 255, 65.4 / 255, 70.4 / 255),
)


def open_cifar(cifar: Cifar, split: str, root: Path, download: bool = True) -> Source:
    """CIFAR in the layout of torchvision, which also downloads it the first time."""
    folder = root / cifar.folder
    if not os.path.isdir(folder):
        if not download:
            raise UserError(f"{folder} is not there.")
        _download(cifar, root)
    advice = f"remove {folder} and start again, it will be downloaded."
    names = pickles.read(folder / cifar.names_file, (cifar.names_key,), advice)[cifar.names_key]
    parts = [
        pickles.read_images(folder / file, 32, cifar.label_key, advice)
        for file in (cifar.train if split == "train" else cifar.test)
    ]
    labels = np.concatenate([labels for _, labels in parts])
    if len(labels) == 0 or not 0 <= int(labels.min()) <= int(labels.max()) < len(names):
        raise UserError(f"{folder} holds labels outside its {len(names)} classes: {advice}")
    return _source(parts, tuple(names), cifar.mean, cifar.std)


def open_imagenet16(split: str, root: Path) -> Source:
    """ImageNet at 16x16, its first 120 classes, as in NAS-Bench-201 (`val_data` is the test set).

    The classes have numbers for names, as in the files (1 to 1000, not in WordNet's order).
    """
    folder = root / "ImageNet16"
    advice = (
        "download Imagenet16_train.zip and Imagenet16_val.zip from "
        "https://image-net.org/download-images.php (an account is free) and unpack "
        f"train_data_batch_1 to train_data_batch_10 and val_data into {folder}."
    )
    parts = []
    for file in (
        [f"train_data_batch_{i}" for i in range(1, 11)] if split == "train" else ["val_data"]
    ):
        images, labels = pickles.read_images(folder / file, 16, "labels", advice)
        if len(labels) and not 1 <= labels.min() <= labels.max() <= 1000:
            raise UserError(f"{folder / file} holds labels outside 1 to 1000: {advice}")
        kept = labels <= IMAGENET16_CLASSES
        parts.append((images[kept], labels[kept] - 1))
    return _source(
        parts,
        tuple(str(i) for i in range(1, IMAGENET16_CLASSES + 1)),
        mean=(122.68 / 255, 116.66 / 255, 104.01 / 255),
        std=(63.22 / 255, 61.26 / 255, 65.09 / 255),
    )


def _source(
    parts: list[tuple[np.ndarray, np.ndarray]], classes: tuple[str, ...], mean: Colour, std: Colour
) -> Source:
    images, labels = (torch.from_numpy(np.concatenate(part)) for part in zip(*parts, strict=True))
    return Source(labels, classes, in_memory(images), flip=True, mean=mean, std=std)


def _download(cifar: Cifar, root: Path) -> None:
    """Download and unpack beside the final place, then rename: the folder is whole or absent."""
    name = cifar.torchvision_class
    folder = root / cifar.folder
    by_hand = f"download {cifar.url} and unpack it so that {folder} exists (or set BDP_EXT_DATA)"
    datasets = _package(
        "torchvision.datasets", f"{name}'s download", "torchvision", f", or {by_hand}"
    )
    known = getattr(datasets, name)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as temporary:
            datasets.utils.download_and_extract_archive(known.url, temporary, md5=known.tgz_md5)
            if not folder.is_dir():  # another process may have been faster
                os.replace(Path(temporary) / cifar.folder, folder)
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise UserError(f"{name} could not be downloaded ({error}): {by_hand}.") from error


def _package(module: str, purpose: str, package: str, otherwise: str = "") -> Any:
    try:
        return importlib.import_module(module)
    except (ImportError, RuntimeError, OSError) as error:  # RuntimeError: for another torch
        raise UserError(
            f"{purpose} needs {package}, which cannot be imported ({error}): "
            f"pip install {package}{otherwise}."
        ) from error
