import pickle
import struct
import sys

import numpy as np
import pytest
import torch

from bdp_ext.data import Augmentation, load, named
from bdp_ext.errors import UserError

from .conftest import write_batch


def test_digits():
    train, test = load("digits"), load("digits", split="test")
    assert train.images.shape == (1437, 3, 8, 8)
    assert test.images.shape == (360, 3, 8, 8)
    assert train.images.dtype == torch.uint8
    assert train.labels.dtype == torch.int64
    assert train.classes == tuple("0123456789")
    assert train.images.max() == 255
    assert torch.equal(train.images[:, 0], train.images[:, 2])
    assert train.augmentation == Augmentation(pad=1, flip=False)
    pixels = train.images.double() / 255
    assert train.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert train.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_limit_and_image_size():
    small = load("digits", limit=100, image_size=16, seed=3)
    assert small.images.shape == (100, 3, 16, 16)
    assert set(small.labels.tolist()) == set(range(10))
    assert small.augmentation.pad == 2
    assert torch.equal(small.labels, load("digits", limit=100, seed=3).labels)
    assert not torch.equal(small.labels, load("digits", limit=100, seed=4).labels)


@pytest.mark.parametrize(
    ("name", "classes", "train", "mean"),
    [("cifar100", 100, 100, 129.3), ("CIFAR10", 10, 50, 125.3)],
)
def test_cifar(cifar_root, name, classes, train, mean):
    data = load(name, root=cifar_root)
    assert data.images.shape == (train, 3, 32, 32)
    assert data.labels.tolist() == list(range(classes)) * (train // classes)
    assert data.classes == tuple(f"class {i}" for i in range(classes))
    assert data.mean[0] == pytest.approx(mean / 255)
    assert data.augmentation == Augmentation(pad=4, flip=True)
    assert load(name, root=cifar_root, split="test").images.shape == (classes, 3, 32, 32)


def test_cifar_pixels_and_default_root(cifar_root, monkeypatch):
    monkeypatch.setenv("BDP_EXT_DATA", str(cifar_root))
    pixels = write_batch(cifar_root / named.CIFAR10.folder / "test_batch", [3, 1], 32)
    data = load("cifar10", split="test")
    assert np.array_equal(data.images.numpy(), pixels)
    assert data.labels.tolist() == [3, 1]


def test_cifar_as_python_2_pickled_it(cifar_root):
    """The real files: strings for bytes, integers for booleans, numpy.core (made by hand here)."""
    data = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8)
    pickled = b"\x80\x02}(U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
    pickled += b"U\x01b\x87R(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    pickled += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
    pickled += struct.pack("<i", data.nbytes) + data.tobytes() + b"tbU\x06labels](K\x05K\x09eu."
    (cifar_root / named.CIFAR10.folder / "test_batch").write_bytes(pickled)
    loaded = load("cifar10", split="test", root=cifar_root)
    assert loaded.labels.tolist() == [5, 9]
    assert np.array_equal(loaded.images.numpy(), data.reshape(2, 3, 32, 32))


def test_imagenet16(imagenet16_root):
    data = load("imagenet16-120", root=imagenet16_root)
    assert data.images.shape == (30, 3, 16, 16)
    assert data.labels[:3].tolist() == [0, 119, 0]
    assert data.labels[-1] == 9
    assert len(data.classes) == 120
    assert data.augmentation == Augmentation(pad=2, flip=True)
    test = load("ImageNet16-120", root=imagenet16_root, split="test")
    assert test.labels.tolist() == [6]
    (imagenet16_root / "ImageNet16/train_data_batch_1").unlink()
    with pytest.raises(UserError, match=r"train_data_batch_1 is missing: download .*into .*ImageN"):
        load("imagenet16-120", root=imagenet16_root)


def test_every_pickle_protocol(imagenet16_root):
    data = np.arange(768, dtype=np.uint64).astype(np.uint8).reshape(1, 768)
    content = {"data": data, "labels": np.array([4]), "mean": np.float64(3), "name": b"x"}
    for protocol in range(6):
        (imagenet16_root / "ImageNet16/val_data").write_bytes(pickle.dumps(content, protocol))
        test = load("imagenet16-120", root=imagenet16_root, split="test")
        assert np.array_equal(test.images.numpy().ravel(), data.ravel())


class Command:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (open, ("/tmp/bdp-should-not-exist", "w"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "damaged"),
        (b"not a pickle", "damaged"),
        (pickle.dumps({"data": Command(), "labels": [1]}), "it asks for (io|_io).open"),
        (pickle.dumps([1, 2]), "does not hold data and labels"),
        (pickle.dumps({"data": np.zeros((1, 768), np.uint8)}), "does not hold data and labels"),
        (pickle.dumps({"data": np.zeros((1, 768)), "labels": [1]}), "does not hold labelled"),
        (pickle.dumps({"data": np.zeros((2, 768), np.uint8), "labels": [1]}), "does not hold lab"),
        (pickle.dumps({"data": "a", "labels": [1]}), "does not hold labelled"),
        (pickle.dumps({"data": np.zeros((1, 768), np.uint8), "labels": ["a"]}), "not hold lab"),
        (pickle.dumps({"data": np.zeros((1, 768), np.uint8), "labels": [0]}), "outside 1 to 1000"),
    ],
)
def test_damaged_batch(imagenet16_root, content, reason):
    file = imagenet16_root / "ImageNet16/train_data_batch_3"
    file.write_bytes(content)
    with pytest.raises(
        UserError, match=rf"train_data_batch_3 .*{reason}.*download Imagenet16_train"
    ):
        load("imagenet16-120", root=imagenet16_root)
    assert file.read_bytes() == content


def test_cifar_file_damaged_missing_or_label_out_of_range(cifar_root):
    file = cifar_root / named.CIFAR100.folder / "train"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(UserError, match=r"cifar-100-python/train is damaged .* remove .* again"):
        load("cifar100", root=cifar_root)
    folder = cifar_root / named.CIFAR10.folder
    write_batch(folder / "data_batch_2", [10], 32)
    with pytest.raises(UserError, match="labels outside its 10 classes"):
        load("cifar10", root=cifar_root)
    (folder / "data_batch_2").unlink()
    with pytest.raises(UserError, match="data_batch_2 is missing: remove"):
        load("cifar10", root=cifar_root)


def test_no_network_leaves_nothing_behind(tmp_path, monkeypatch):
    utils = pytest.importorskip("torchvision").datasets.utils

    def cut_off(url, root, **_):
        (tmp_path / root / "half").write_text("of it")
        raise OSError("network is unreachable")

    monkeypatch.setattr(utils, "download_and_extract_archive", cut_off)
    with pytest.raises(
        UserError, match=r"CIFAR10 could not be .* unreachable.*cifar-10-python\.tar"
    ):
        load("cifar10", root=tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="could not be downloaded"):
        load("cifar10", root=tmp_path / "file/root")


def test_download_puts_the_whole_folder_in_place(tmp_path, cifar_root, monkeypatch):
    utils = pytest.importorskip("torchvision").datasets.utils

    def fetch(url, root, md5):
        assert url == named.CIFAR10.url
        (cifar_root / named.CIFAR10.folder).rename(f"{root}/{named.CIFAR10.folder}")

    monkeypatch.setattr(utils, "download_and_extract_archive", fetch)
    root = tmp_path / "new/root"
    assert len(load("cifar10", root=root).labels) == 50
    assert [entry.name for entry in root.iterdir()] == [named.CIFAR10.folder]


def test_no_torchvision(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(UserError, match=r"pip install torchvision, or download https.*tar\.gz"):
        load("cifar10", root=tmp_path)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("cifar-10", "did you mean 'cifar10'"), ("digit", "'digits'"), ("svhn", "digits, cifar10,")],
)
def test_unknown_name(name, hint):
    with pytest.raises(UserError, match=f"no data set is called '{name}'.*{hint}"):
        load(name)


def test_unknown_split():
    with pytest.raises(ValueError, match="'train' or 'test', got 'valid'"):
        load("digits", split="valid")
