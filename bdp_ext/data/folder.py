"""A folder with a folder per class: DIR/train/<class>/*, optionally DIR/test/<class>/* (or val)."""

import os
from pathlib import Path

import torch

from bdp_ext.data.decode import decode
from bdp_ext.data.source import Source
from bdp_ext.errors import UserError

IGNORED = {"thumbs.db", "desktop.ini", "__macosx"}  # and every name that starts with a dot


def open_folder(folder: Path, split: str) -> Source:
    """List the images of DIR/<split>; nothing is decoded yet.

    Classes are the folders of DIR/train in sorted order, images go by class, then by file name.

    Args:
        folder: DIR.
        split: "train" or "test"; the latter is DIR/test or, without it, DIR/val as in ImageNet.

    Raises:
        UserError: DIR or a part of it is not as described; the sentence names it and what to do.
    """
    train = _require_split(folder)
    classes = _class_folders(train)
    if len(classes) < 2:
        raise UserError(
            f"{train} holds only one class ({classes[0].name}): a search needs at least two."
        )
    test = folder / "test"
    if split == "test" and not os.path.isdir(test):
        test = folder / "val"
    if os.path.isdir(test):
        _compare_classes(train, classes, test, _class_folders(test))
    elif split == "test":
        raise UserError(
            f"{folder} has no folder 'test' or 'val': "
            f"put test images in {folder / 'test'}/<class>/."
        )

    images = test if split == "test" else train
    files: list[str] = []  # ImageNet's as Path objects would take 410 MB more
    labels: list[int] = []
    for label, name in enumerate(c.name for c in classes):
        found = _images(images / name)
        if split == "train":
            _require_two(images / name, found)
        files += found
        labels += [label] * len(found)
    if not files:
        raise UserError(f"{images} holds no images: put some in its class folders.")
    return Source(
        labels=torch.tensor(labels),
        classes=tuple(c.name for c in classes),
        read=lambda index, size: decode([files[i] for i in index.tolist()], size),
        flip=True,
        files=files,
    )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What is in a folder, sorted by name, without hidden and system files."""
    try:
        with os.scandir(folder) as found:
            entries = [
                e for e in found if not e.name.startswith(".") and e.name.lower() not in IGNORED
            ]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): make it readable.") from error
    return sorted(entries, key=lambda e: e.name)


def _class_folders(folder: Path) -> list[Path]:
    entries = _entries(folder)
    classes = [Path(e.path) for e in entries if e.is_dir()]
    if not classes:
        found = f"{len(entries)} files" if entries else "nothing"
        raise UserError(
            f"{folder} holds no class folders ({found}): put the images in {folder}/<class>/."
        )
    return classes


def _images(folder: Path) -> list[str]:
    entries = _entries(folder)
    for entry in entries:
        if entry.is_dir():
            raise UserError(
                f"{entry.path} is a folder inside a class: put its images directly in {folder}."
            )
    return [e.path for e in entries]


def _require_two(folder: Path, images: list[str]) -> None:
    if not images:
        raise UserError(f"{folder} holds no images: add images of this class or remove the folder.")
    if len(images) == 1:
        name = os.path.basename(images[0])
        raise UserError(
            f"{folder} holds a single image ({name}), and the two levels of a search "
            "need one each: add images of this class or remove the folder."
        )


def _require_split(folder: Path) -> Path:
    """DIR/train, or the sentence that says what DIR is instead."""
    train = folder / "train"
    if not os.path.exists(folder):  # unlike Path's, os.path's tests never raise
        raise UserError(
            f"{folder} does not exist: give a folder that holds train/<class>/ with images."
        )
    if not os.path.isdir(folder):
        raise UserError(f"{folder} is a file: give a folder that holds train/<class>/ with images.")
    if os.path.isdir(train):
        return train
    entries = _entries(folder)
    folders = [e for e in entries if e.is_dir()]
    classes = [e.name for e in folders if any(not inner.is_dir() for inner in _entries(Path(e)))]
    if classes:
        raise UserError(
            f"{folder} has no folder 'train', but holds class folders itself ({_some(classes)}): "
            f"move them into {train}."
        )
    found = _some([e.name for e in entries]) or "nothing"
    raise UserError(
        f"{folder} has no folder 'train' (found: {found}): put the images in {train}/<class>/."
    )


def _compare_classes(train: Path, classes: list[Path], test: Path, tested: list[Path]) -> None:
    expected, found = {c.name for c in classes}, {c.name for c in tested}
    if extra := sorted(found - expected):
        raise UserError(
            f"{test} holds classes that {train} does not ({_some(extra)}): make the two agree."
        )
    if lacking := sorted(expected - found):
        raise UserError(f"{test} lacks classes of {train} ({_some(lacking)}): make the two agree.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
