from functools import partial

import pytest
import torch

from bdp_ext.data import split_halves
from bdp_ext.data.split import choose
from bdp_ext.errors import UserError


def labels_of(*counts: int) -> torch.Tensor:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(9))]


@pytest.mark.parametrize("share", [0.5, 0.1, 0.9, 1 / 3])
@pytest.mark.parametrize("counts", [(500,) * 10, (300, 2, 150, 1, 2)])
def test_disjoint_complete_and_every_class_on_both_sides(counts, share):
    labels = labels_of(*counts)
    for seed in range(20):
        train, valid = split_halves(labels, share, seed)
        assert train.dtype == valid.dtype == torch.int64
        assert len(train) == round(share * len(labels))
        assert torch.equal(torch.cat([train, valid]).sort().values, torch.arange(len(labels)))
        divisible = {c for c, n in enumerate(counts) if n >= 2}
        assert divisible <= set(labels[train].tolist())
        assert divisible <= set(labels[valid].tolist())


def test_same_seed_same_choice_another_seed_another():
    labels = labels_of(*(50,) * 4)
    for chosen in (lambda seed: split_halves(labels, 0.5, seed)[0], partial(choose, labels, 50)):
        first, again, other = map(chosen, (1, 1, 2))
        assert torch.equal(first, again)
        assert not torch.equal(first, other)


def test_split_is_random_not_stratified():
    labels = labels_of(1000, 1000)
    sizes = {int((labels[split_halves(labels, 0.5, seed)[0]] == 0).sum()) for seed in range(20)}
    assert len(sizes) > 5
    assert all(420 < size < 580 for size in sizes)


def test_every_sample_is_equally_likely_on_either_side():
    labels = labels_of(10, 10)
    share = torch.zeros(20)
    for seed in range(2000):
        share[split_halves(labels, 0.5, seed)[0]] += 1 / 2000
    assert (share - 0.5).abs().max() < 0.06


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 1.5, 0.001, 0.999])
def test_share_that_leaves_a_side_empty(share):
    with pytest.raises(UserError, match="--train-share"):
        split_halves(labels_of(50, 50), share, 0)
    with pytest.raises(UserError, match="too few on one side for 10 classes"):
        split_halves(labels_of(*(10,) * 10), 0.05, 0)


@pytest.mark.parametrize("limit", [3, 4, 6, 10, 100])
def test_choose_loses_no_class(limit):
    counts = (200, 5, 2)
    labels = labels_of(*counts)
    for seed in range(20):
        index = choose(labels, limit, seed)
        assert torch.equal(index, index.unique())
        assert len(index) == limit
        kept = labels[index].bincount(minlength=3)
        assert kept.min() >= (2 if limit >= 6 else 1)


def test_choose_everything():
    labels = labels_of(3, 4)
    for limit in (None, 7, 1000):
        assert torch.equal(choose(labels, limit, 0), torch.arange(7))
