"""Images left in their files: their crops, their order, and the threads that must not show."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bdp_ext.data import StreamedSet, load, loading, memory
from bdp_ext.data.source import statistics
from bdp_ext.data.streamed_set import TRIES, cut, middle_box, random_box
from bdp_ext.errors import UserError

from .conftest import write_image

EVERY = torch.arange(12)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def open_stream(folder: Path, **options) -> StreamedSet:
    return load(folder, stream=True, **{"image_size": 6, **options})


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def test_is_the_folder_in_order(folder):
    data = open_stream(folder)
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.classes == ("bird", "cat", "dog")
    assert (data.image_size, data.flip) == (6, True)
    index = torch.tensor([6, 0, 11])
    images = data.read(index, None)
    assert images.shape == (3, 3, 6, 6)
    assert images.dtype == torch.uint8
    for image, name in zip(images, ("cat/2", "bird/0", "dog/3"), strict=True):
        with Image.open(folder / f"train/{name}.png") as file:
            middle = file.resize((6, 6), Image.Resampling.BILINEAR, middle_box(*file.size))
        assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(middle))
    assert open_stream(folder, split="test").labels.tolist() == [0, 1, 2]


def test_mean_and_deviation_are_those_of_a_sample(folder, monkeypatch):
    everything = load(folder, image_size=6)
    data = open_stream(folder)
    assert (data.mean, data.std) == (everything.mean, everything.std)
    monkeypatch.setattr(loading, "SAMPLED", 3)
    data = open_stream(folder)
    assert (data.mean, data.std) == statistics(everything.images[[0, 4, 8]])


def waves(width: int, height: int) -> Image.Image:
    """Smooth, and nowhere the same."""
    y, x = np.mgrid[0:height, 0:width] * 8 / height
    channels = [127.5 + 120 * np.sin(x * speed) * np.cos(y) for speed in (1, 1.3, 0.7)]
    return Image.fromarray(np.stack(channels, 2).round().astype(np.uint8))


def test_middle_is_that_of_the_usual_evaluation():
    """Resize to 256 pixels, then the 224 in the middle."""
    transforms = pytest.importorskip("torchvision").transforms
    image = waves(600, 300)
    expected = transforms.CenterCrop(224)(transforms.Resize(256)(image))
    found = cut(image, middle_box(*image.size), 224)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 1


def test_random_boxes_are_torchvisions():
    """Their areas and ratios are distributed alike; so are the places."""
    transforms = pytest.importorskip("torchvision").transforms
    torch.manual_seed(0)
    width, height, n = 500, 375, 4000
    image = torch.empty(3, height, width)
    theirs = [
        transforms.RandomResizedCrop.get_params(image, (0.08, 1), (3 / 4, 4 / 3)) for _ in range(n)
    ]
    numbers = torch.rand(n, 4 * TRIES, generator=generator()).tolist()
    boxes = torch.tensor([random_box(width, height, row) for row in numbers]).double()
    left, top, right, bottom = boxes.unbind(1)
    assert boxes[:, :2].min() >= 0
    assert right.max() <= width
    assert bottom.max() <= height
    their_top, their_left, their_height, their_width = torch.tensor(theirs).double().unbind(1)
    assert torch.equal(boxes, boxes.round())
    for ours, other in (
        ((right - left) * (bottom - top), their_height * their_width),
        ((right - left) / (bottom - top), their_width / their_height),
        (left, their_left),
        (top, their_top),
    ):
        grid = torch.cat([ours, other]).sort().values
        apart = [(torch.searchsorted(x.sort().values, grid, right=True) / n) for x in (ours, other)]
        # Kolmogorov and Smirnov: 1 in 10,000 equal distributions are further apart.
        assert (apart[0] - apart[1]).abs().max() < 2.2 * (2 / n) ** 0.5


@pytest.mark.parametrize(("width", "height"), [(1000, 10), (10, 1000), (1, 1)])
def test_where_no_box_fits_it_is_torchvisions_last_resort(width, height):
    transforms = pytest.importorskip("torchvision").transforms
    top, left, h, w = transforms.RandomResizedCrop.get_params(
        torch.empty(3, height, width), (0.9, 1), (3 / 4, 4 / 3)
    )
    numbers = [0.9, 0.5, 0.5, 0.5] * TRIES
    assert random_box(width, height, numbers) == (left, top, left + w, top + h)


def test_cut_is_the_crop_then_scaled():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for box in ((10, 5, 60, 50), (0, 0, 80, 60), (70, 0, 80, 10)):
        expected = np.asarray(image.crop(box).resize((16, 16), Image.Resampling.BILINEAR))
        found = np.asarray(cut(image, box, 16))
        assert np.array_equal(found[1:-1, 1:-1], expected[1:-1, 1:-1])
        # At its edges the filter sees the pixels beside the box; where there are none, it is equal.
        assert np.array_equal(found, expected) == (box == (0, 0, 80, 60))


def test_large_jpeg_is_decoded_small_and_looks_the_same(tmp_path):
    whole = waves(1201, 900)
    whole.save(tmp_path / "a.jpg", quality=95)
    for box, fraction in (
        ((100, 50, 1100, 850), 4),
        ((601, 450, 1201, 900), 2),
        ((0, 0, 100, 100), 1),
    ):
        with Image.open(tmp_path / "a.jpg") as image:
            found = np.asarray(cut(image, box, 64)).astype(int)
            assert image.width == -(-1201 // fraction)
        expected = np.asarray(cut(whole, box, 64)).astype(int)
        assert np.abs(found - expected).max() <= 4


def test_half_of_the_images_are_mirrored(folder):
    for i in range(4):  # a ramp rises to the right however it is cropped
        ramp = np.tile(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (96, 1, 3))
        Image.fromarray(ramp).save(folder / f"train/cat/{i}.png")
    data = open_stream(folder)
    random = generator()
    images = torch.cat([data.read(torch.arange(4, 8), random) for _ in range(100)]).int()
    falling = images[:, 0, :, 0] > images[:, 0, :, -1]
    assert torch.equal(falling.all(1), falling.any(1))
    assert 0.42 < falling[:, 0].float().mean() < 0.58
    assert len(images.flatten(1).unique(dim=0)) > 300


def test_threads_and_looking_ahead_change_nothing(folder, threads):
    batches = [EVERY[:7], EVERY[7:], EVERY.flip(0), torch.tensor([3])]
    plain, expected = open_stream(folder), []
    random = generator(5)
    for index in batches:
        expected.append(plain.read(index, random))
    data, other = open_stream(folder), generator(5)
    for number, index in enumerate(batches):
        before = other.get_state()
        assert torch.equal(data.read(index, other), expected[number])
        assert not torch.equal(other.get_state(), before)
        if number + 1 < len(batches):
            before = other.get_state()
            data.prefetch(batches[number + 1], other)
            assert torch.equal(other.get_state(), before)
    assert torch.equal(other.get_state(), random.get_state())
    data.prefetch(EVERY, None)
    assert torch.equal(data.read(EVERY, None), plain.read(EVERY, None))


def test_what_was_expected_is_not_decoded_twice(folder, monkeypatch):
    data, decoded = open_stream(folder), []
    decode = StreamedSet._decode
    monkeypatch.setattr(
        StreamedSet, "_decode", lambda *args: decoded.append(args[1]) or decode(*args)
    )
    random, other = generator(1), generator(2)
    data.prefetch(EVERY[:5], random)
    data.prefetch(EVERY[5:], other)
    data.read(EVERY[5:], other)
    data.read(EVERY[:5], random)
    assert sorted(decoded) == sorted(data.files)
    for _ in range(5):  # a batch that is never read gives way
        data.prefetch(EVERY[:5], random)
    assert len(data._ahead) == 2
    data.read(EVERY[8:11], random)
    assert set(data.files[8:11]) <= set(decoded[12:])


def test_damaged_file_is_named_when_it_is_read(folder):
    data = open_stream(folder)
    for name in ("cat/1.png", "dog/0.png"):
        truncate(folder / "train" / name)
    (folder / "train/dog/3.png").unlink()
    data.prefetch(EVERY, generator())
    data.read(EVERY[:5], None)
    with pytest.raises(UserError, match=r"train/cat/1\.png is damaged \(.*\): replace or remove"):
        data.read(EVERY, generator())
    with pytest.raises(UserError, match=r"train/cat/1\.png is damaged"):
        open_stream(folder)  # in the sample: at once
    with pytest.raises(UserError, match=r"train/dog/3\.png cannot be read \(No such file"):
        data.read(EVERY[9:], None)
    write_image(folder / "train/cat/1.png", seed=11)
    assert data.read(EVERY[:8], None).shape == (8, 3, 6, 6)


def test_checksum_is_of_names_and_labels(folder, tmp_path):
    before = open_stream(folder).checksum()
    write_image(folder / "train/cat/1.png", seed=77)
    assert open_stream(folder).checksum() == before
    moved = folder.rename(tmp_path / "moved")
    assert open_stream(moved).checksum() == before
    (moved / "train/cat/1.png").rename(moved / "train/cat/7.png")
    assert open_stream(moved).checksum() != before
    assert open_stream(moved, limit=6).checksum() != open_stream(moved).checksum()


def test_more_than_memory_holds_is_no_hindrance(folder, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1000)
    with pytest.raises(UserError, match=r"a --subset, or, for a folder of images, --stream\."):
        load(folder, image_size=6)
    monkeypatch.setattr(loading, "SAMPLED", 6)
    assert open_stream(folder).read(EVERY, generator()).shape == (12, 3, 6, 6)


def test_subset_is_a_share_that_loses_no_class(folder):
    for stream in (False, True):
        data = load(folder, subset=0.5, image_size=6, stream=stream)
        assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert torch.equal(load("digits", subset=0.1).labels, load("digits", limit=144).labels)
    assert len(load("digits", subset=1).labels) == 1437


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"subset": 0.0}, r"--subset must be above 0 and at most 1, got 0\.0"),
        ({"subset": 1.5}, r"--subset must be above 0"),
        ({"subset": 0.5, "limit": 5}, "give --limit-train or --subset, not both"),
        ({"subset": 0.1}, "1 images cannot hold 3 classes: give a larger --limit-train or --subs"),
        ({"stream": True}, "--stream needs --image-size"),
        ({"image_size": 0}, "--image-size must be at least 1, got 0"),
        ({"limit": 0}, "--limit-train must be at least 1, got 0"),
    ],
)
def test_refuses(folder, options, sentence):
    with pytest.raises(UserError, match=sentence):
        load(folder, **options)
    with pytest.raises(UserError, match="--stream is for a folder of images"):
        load("digits", stream=True, image_size=8)
