"""Small folders and files in the layouts that `bdp_ext.data` reads; nothing is downloaded."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bdp_ext.data import named


def write_image(path: Path, size: tuple[int, int] = (8, 6), seed: int = 0) -> np.ndarray:
    """A random RGB image of (width, height) at `path`; returns its pixels [H, W, 3]."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def write_batch(path: Path, labels: list[int], size: int, label_key: str = "labels") -> np.ndarray:
    """A batch file of random images with these labels; returns them [N, 3, size, size]."""
    rng = np.random.default_rng(len(path.name))
    data = rng.integers(0, 256, (len(labels), 3 * size * size), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps({"data": data, label_key: labels}, protocol=2))
    return data.reshape(-1, 3, size, size)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes, four images each for training and one for testing, 8x6 pixels."""
    for label, name in enumerate(("bird", "cat", "dog")):
        for i in range(4):
            write_image(tmp_path / "images/train" / name / f"{i}.png", seed=10 * label + i)
        write_image(tmp_path / "images/test" / name / "t.png", seed=100 + label)
    return tmp_path / "images"


@pytest.fixture
def cifar_root(tmp_path: Path) -> Path:
    """Both CIFAR sets as torchvision unpacks them, with a few random images."""
    root = tmp_path / "root"
    for cifar, classes in ((named.CIFAR10, 10), (named.CIFAR100, 100)):
        folder = root / cifar.folder
        for file in cifar.train + cifar.test:
            write_batch(folder / file, list(range(classes)), 32, cifar.label_key)
        names = {cifar.names_key: [f"class {i}" for i in range(classes)]}
        (folder / cifar.names_file).write_bytes(pickle.dumps(names, protocol=2))
    return root


@pytest.fixture
def imagenet16_root(tmp_path: Path) -> Path:
    """Downsampled ImageNet: ten batches with the labels 1, 120, 121 and i, and val_data."""
    folder = tmp_path / "root/ImageNet16"
    for i in range(1, 11):
        write_batch(folder / f"train_data_batch_{i}", [1, 120, 121, i], 16)
    write_batch(folder / "val_data", [1000, 7], 16)
    return folder.parent
