"""One loader that yields both levels: where the second half comes from, and what takes the place of
a pruned one."""

import random

import pytest
import torch
from common import Images, Network, numbers
from torch import nn
from torch.utils.data import DataLoader, Dataset

import bdp_ext
from bdp_ext.dropin.pair_loader import Reader


class TwoSets(Dataset):
    """AutoDL-Projects' second form: another data set for the second half, and a part of it."""

    def __init__(self, first, second, valid_split):
        self.train_data, self.valid_data, self.valid_split = first, second, valid_split
        self.train_split = list(range(len(first)))

    def __len__(self):
        return len(self.train_split)

    def __getitem__(self, index):
        second = self.valid_data[random.choice(self.valid_split)]
        return (*self.train_data[self.train_split[index]], *second)


class InOrder(TwoSets):
    def __getitem__(self, index):
        first = self.train_data[self.train_split[index]]
        return (*first, *self.valid_data[random.choice(self.valid_split)])


class Zipped(Dataset):
    """Two data sets side by side, nothing else."""

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __len__(self):
        return len(self.a)

    def __getitem__(self, index):
        return (*self.a[index], *self.b[index % len(self.b)])


class Hidden(Zipped):
    """Keeps its data sets in a list."""

    def __init__(self, a, b):
        self.parts = [a, b]
        self.targets = a.targets

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, index):
        return (*self.parts[0][index], *self.parts[1][index % 40])


def search(data, workers=0, **options):
    criterion, model = nn.CrossEntropyLoss(), Network()
    loader = DataLoader(data, 16, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    loader = bdp_ext.prune(loader, loss=criterion, epochs=5, interval=2, balance="none", **options)
    for _ in range(5):
        live = {name: set(part.tolist()) for name, part in loader.pruner.live_indices.items()}
        for images, target, search_images, labels in loader:
            assert set(numbers(images)) <= live["train"]
            assert set(numbers(search_images)) <= live["valid"]
            criterion(model(images), target).backward()
            criterion(model(search_images), labels).backward()
    return {name: len(part) for name, part in loader.pruner.live_indices.items()}


def test_second_data_set_with_a_split_of_it():
    random.seed(0)
    data = InOrder(Images(80), Images(100, seed=1), list(range(20, 100)))
    sizes = search(data)
    assert sizes["train"] == 40
    assert 40 <= sizes["valid"] < 80  # some were drawn in one epoch only, and stay


@pytest.mark.parametrize("workers", [0, 1])
def test_two_data_sets(workers):
    assert search(Zipped(Images(80), Images(40, seed=1)), workers) == {"train": 40, "valid": 20}


def test_told_where():
    first, second = Images(80), Images(40, seed=1)
    data = Zipped(first, second)
    data.third = Images(10)
    with pytest.raises(ValueError, match="pass valid="):
        search(data, labels=(first.targets, None))
    assert search(data, labels=(first.targets, None), valid=(second, range(40)))["train"] == 40


@pytest.mark.parametrize(
    "data",
    [
        TwoSets(Images(80), Images(100, seed=1), list(range(100))),  # the second half first
        Hidden(Images(80), Images(40, seed=1)),
    ],
)
def test_refuses_what_it_cannot_follow(data):
    second = getattr(data, "valid_data", None) or data.parts[1]
    with pytest.raises(RuntimeError, match="one sample of each level, the second half last"):
        search(data, valid=(second, range(len(second))))


def test_any_live_sample_takes_the_place_of_a_pruned_one():
    reader = Reader(100)
    live = torch.arange(0, 100, 3)
    reader.renew(live)
    assert [reader.instead(index, 5) for index in live.tolist()] == live.tolist()
    drawn = torch.tensor([reader.instead(i, s) for s in range(400) for i in range(1, 100, 3)])
    counts = torch.bincount(drawn, minlength=100)
    assert counts[live].sum() == len(drawn)
    mean = len(drawn) / len(live)
    assert (counts[live] - mean).abs().max() < 6 * mean**0.5  # six standard deviations
