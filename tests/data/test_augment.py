import pytest
import torch
import torch.nn.functional as F

from bdp_ext.data import Augmentation, cutout, normalize


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(n: int, height: int = 8, width: int = 8) -> torch.Tensor:
    return torch.randint(1, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator(1))


def placements(images: torch.Tensor, result: torch.Tensor, pad: int) -> list[tuple[int, int, bool]]:
    """For each sample the (top, left, flipped) of the padded image's window that it became."""
    height, width = images.shape[2:]
    padded = F.pad(images, (pad,) * 4)
    found = []
    for image, cut in zip(padded, result, strict=True):
        matches = [
            (top, left, flipped)
            for top in range(2 * pad + 1)
            for left in range(2 * pad + 1)
            for flipped in (False, True)
            if torch.equal(
                cut.flip(-1) if flipped else cut,
                image[:, top : top + height, left : left + width],
            )
        ]
        assert len(matches) == 1
        found += matches
    return found


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9)])
@pytest.mark.parametrize("flip", [False, True])
def test_every_sample_is_its_own_window_of_its_padded_image(height, width, flip):
    images = batch(300, height, width)
    before = images.clone()
    result = Augmentation(pad=2, flip=flip)(images, generator())
    assert result.shape == images.shape
    assert result.dtype == torch.uint8
    assert torch.equal(images, before)
    tops, lefts, flipped = zip(*placements(images, result, 2), strict=True)
    assert set(tops) == set(lefts) == set(range(5))
    assert len(set(zip(tops, lefts, strict=True))) == 25
    assert any(flipped) == flip


def test_offsets_and_flips_are_uniform():
    image = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).expand(18000, 3, 3, 3)
    result = Augmentation(pad=1, flip=True)(image, generator())
    middle = result[:, 0, 1, 1].long()
    assert middle.bincount(minlength=10)[1:].min() > 1700
    whole = result[middle == 5, 0, 1]  # neither up nor down nor aside
    assert 0.45 < (whole[:, 0] == 6).float().mean() < 0.55


def test_same_generator_same_result():
    images, augmentation = batch(64), Augmentation(pad=1, flip=True)
    first = augmentation(images, generator(5))
    assert torch.equal(first, augmentation(images, generator(5)))
    assert not torch.equal(first, augmentation(images, generator(6)))
    assert torch.equal(Augmentation(pad=0, flip=False)(images, generator()), images)
    assert augmentation(batch(0), generator()).shape == (0, 3, 8, 8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_same_result_on_the_gpu():
    images, augmentation = batch(64), Augmentation(pad=1, flip=True)
    assert torch.equal(
        augmentation(images.cuda(), generator()).cpu(), augmentation(images, generator())
    )


def test_normalize():
    images, mean, std = batch(5), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    result = normalize(images, mean, std)
    expected = images.double() / 255
    expected = (expected - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    assert result.dtype == torch.float32
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result.double(), expected, rtol=1e-6, atol=1e-6)


def test_cutout_blanks_a_square_around_any_pixel():
    images = torch.ones(4000, 2, 8, 8)
    blanked = cutout(images, 4, torch.Generator().manual_seed(0)) == 0
    assert torch.equal(images, torch.ones_like(images))
    assert torch.equal(blanked[:, 0], blanked[:, 1])
    rows, columns = blanked[:, 0].any(2).sum(1), blanked[:, 0].any(1).sum(1)
    assert torch.equal(blanked[:, 0].sum((1, 2)), rows * columns)
    assert (rows.min(), rows.max()) == (2, 4)  # two of its four rows outside, or none
    assert rows.double().mean().item() == pytest.approx(3.5, abs=0.1)  # (2 + 3 + 5 * 4 + 3) / 8
