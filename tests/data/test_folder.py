import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bdp_ext.data import Augmentation, load, memory
from bdp_ext.data.decode import decode
from bdp_ext.data.split import choose
from bdp_ext.errors import UserError

from .conftest import write_image


def test_folder(folder):
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):  # hidden and system files
        (folder / "train/cat" / name).write_text("x")
        (folder / "train" / name).write_text("x")
    (folder / "train/.ipynb_checkpoints").mkdir()
    (folder / "train/cat/.thumbnails").mkdir()
    (folder / "train/readme.txt").write_text("files beside the classes are no classes")
    data = load(folder)
    assert data.images.shape == (12, 3, 6, 8)
    assert data.images.dtype == torch.uint8
    assert data.images.is_contiguous()
    assert data.classes == ("bird", "cat", "dog")
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.augmentation == Augmentation(pad=1, flip=True)
    expected = np.asarray(Image.open(folder / "train/cat/2.png"))
    assert np.array_equal(data.images[6].permute(1, 2, 0).numpy(), expected)
    pixels = data.images.double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert data.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-6)
    assert load(str(folder), split="test").labels.tolist() == [0, 1, 2]


def test_limit_decodes_only_the_chosen(folder):
    labels = load(folder).labels
    (folder / "train/dog/3.png").write_text("broken")
    seed = next(seed for seed in range(100) if 11 not in choose(labels, 6, seed))
    assert load(folder, limit=6, seed=seed).labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_order_does_not_depend_on_the_threads(tmp_path):
    for i in range(150):
        write_image(tmp_path / f"{i:03d}.png", size=(50, 40), seed=i)
    files = sorted(tmp_path.iterdir())
    expected = np.stack([np.asarray(Image.open(file)) for file in files])
    assert np.array_equal(decode(files, None).permute(0, 2, 3, 1).numpy(), expected)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 256)
    else:
        image = grey.convert("RGB").convert(mode)
    file = tmp_path / ("a.tiff" if mode == "CMYK" else "a.png")
    image.save(file, **({"transparency": b"\x00\x80"} if mode == "P" else {}))
    decoded = decode([file], None)[0]
    assert decoded.shape == (3, 8, 8)
    if mode in ("L", "LA", "RGBA", "CMYK", "I;16"):
        assert np.array_equal(decoded[0].numpy(), np.asarray(grey))


def test_formats(tmp_path):
    files = [tmp_path / f"a.{kind}" for kind in ("bmp", "gif", "jpg", "png", "ppm", "tiff", "webp")]
    for file in files:
        write_image(file)
    assert decode(files, None).shape == (7, 3, 6, 8)


def test_image_size_brings_sizes_together(tmp_path):
    for i, size in enumerate([(40, 20), (20, 40), (16, 16), (700, 500)]):
        pixels = np.full((size[1], size[0], 3), 50 * (i + 1), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i}.jpg")
    images = decode(sorted(tmp_path.iterdir()), 16)
    assert images.shape == (4, 3, 16, 16)
    for i, image in enumerate(images):
        assert (image.int() - 50 * (i + 1)).abs().max() <= 2
    pixels = np.zeros((16, 48, 3), dtype=np.uint8)
    pixels[:, 16:32] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (decode([tmp_path / "a.png"], 16) == 200).all()  # the middle


def test_images_of_different_sizes(folder):
    write_image(folder / "train/dog/1.png", size=(9, 6))
    with pytest.raises(UserError, match=r"dog/1\.png is 9x6 .*bird/0\.png is 8x6: .*--image-size"):
        load(folder)
    assert load(folder, image_size=6).images.shape == (12, 3, 6, 6)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def move_up(folder: Path) -> None:
    for path in (folder / "train").iterdir():
        path.rename(folder / path.name)
    remove(folder / "train")


def keep(folder: Path, *files: str) -> None:
    for path in folder.iterdir():
        if path.name not in files:
            remove(path)


def truncate(file: Path) -> None:
    write_image(file.with_suffix(".jpg"), size=(64, 64))
    data = file.with_suffix(".jpg").read_bytes()
    file.with_suffix(".jpg").write_bytes(data[: len(data) // 2])


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (remove, "images does not exist: give a folder"),
        (lambda d: (remove(d), d.write_text("")), "images is a file: give a folder"),
        (move_up, r"no folder 'train', but holds class folders itself \(bird, cat, dog\): move th"),
        (lambda d: remove(d / "train"), r"no folder 'train' \(found: test\)"),
        (lambda d: keep(d), r"no folder 'train' \(found: nothing\): put the images in"),
        (lambda d: (keep(d), (d / "a.zip").write_text("")), r"no folder 'train' \(found: a.zip\)"),
        (lambda d: keep(d / "train"), r"train holds no class folders \(nothing\)"),
        (lambda d: (keep(d / "train"), write_image(d / "train/a.png")), r"folders \(1 files\)"),
        (lambda d: keep(d / "train", "cat"), r"holds only one class \(cat\)"),
        (lambda d: keep(d / "train/cat"), "train/cat holds no images: add"),
        (lambda d: keep(d / "train/cat", "1.png"), r"train/cat holds a single image \(1\.png\)"),
        # The first one in order is named.
        (
            lambda d: [(d / f"train/{name}.png").write_text("x") for name in ("dog/0", "bird/3")],
            r"bird/3\.png is not an image",
        ),
        (lambda d: (d / "train/cat/1.png").write_text(""), r"cat/1\.png is not an image"),
        (lambda d: (d / "train/cat/1.png").rename(d / "train/cat/1.txt"), None),
        (lambda d: truncate(d / "train/cat/0.png"), r"cat/0\.jpg is damaged \(.*\): replace"),
        (lambda d: (d / "train/cat/more").mkdir(), "cat/more is a folder inside a class"),
        (lambda d: (d / "train/cat/9.png").symlink_to("gone"), r"9\.png cannot be read \(No such"),
        (lambda d: (d / "test/cat").rename(d / "test/owl"), r"does not \(owl\): make the two"),
        (lambda d: remove(d / "test/cat"), r"test lacks classes of .*train \(cat\)"),
    ],
)
def test_bad_folder(folder, spoil, sentence):
    spoil(folder)
    if sentence is None:  # the content counts, not the name
        assert len(load(folder).labels) == 12
        return
    with pytest.raises(UserError, match=sentence) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_test_split_missing_or_empty(folder):
    for name in ("bird", "cat", "dog"):
        remove(folder / "test" / name / "t.png")
    with pytest.raises(UserError, match="test holds no images"):
        load(folder, split="test")
    remove(folder / "test")
    assert len(load(folder).labels) == 12
    with pytest.raises(
        UserError, match=r"has no folder 'test' or 'val': put .*images/test/<class>/\.$"
    ):
        load(folder, split="test")


def test_val_is_the_test_set_where_there_is_no_other(folder):
    expected = load(folder, split="test").images
    (folder / "test").rename(folder / "val")
    assert torch.equal(load(folder, split="test").images, expected)
    (folder / "val/cat").rename(folder / "val/owl")
    assert len(load(folder).labels) == 12
    with pytest.raises(UserError, match=r"val holds classes that .*train does not \(owl\)"):
        load(folder, split="test")


@pytest.mark.parametrize("what", ["train/cat", "train/cat/1.png"])
def test_unreadable(folder, monkeypatch, what):
    """As root nothing is unreadable, so the system call is made to refuse."""
    path = folder / what
    for module, name in ((os, "scandir"), (Path, "read_bytes")):
        original = getattr(module, name)

        def refuse(argument, *args, original=original):
            if str(argument) == str(path):
                raise PermissionError(13, "Permission denied")
            return original(argument, *args)

        monkeypatch.setattr(module, name, refuse)
    with pytest.raises(UserError, match=rf"{what} cannot be read \(Permission denied\): make"):
        load(folder)


def test_more_than_memory_holds(folder, monkeypatch):
    assert memory.available() is None or memory.available() > 2**20
    monkeypatch.setattr(memory, "available", lambda: 12 * 3 * 6 * 8)
    with pytest.raises(
        UserError, match=r"12 images of 8x6 .* smaller --image-size, a --subset, or"
    ):
        load(folder)
    with pytest.raises(UserError, match="1,437 images of 32x32"):
        load("digits", image_size=32)
    monkeypatch.setattr(memory, "available", lambda: None)
    assert len(load(folder).labels) == 12


def test_real_images(cifar):
    train, test = load(cifar), load(cifar, split="test")
    assert train.images.shape == (512, 3, 32, 32)
    assert test.images.shape == (60, 3, 32, 32)
    assert train.classes == test.classes
    assert train.classes[0] == "airplane"
    assert train.augmentation == Augmentation(pad=4, flip=True)
    assert train.mean == pytest.approx((0.491, 0.482, 0.446), abs=0.03)
    assert train.std == pytest.approx((0.247, 0.243, 0.262), abs=0.03)
