"""The samples and the labels of a batch."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bdp_ext


class Batches:
    """A batch sampler whose batches are made by `kind`."""

    def __init__(self, kind):
        self.kind = kind
        self.indices = range(6)

    def __iter__(self):
        return iter([self.kind([3, 0, 5]), self.kind([1, 2, 4])])

    def __len__(self):
        return 2


@pytest.mark.parametrize(
    "kind", [list, tuple, torch.tensor, np.array, lambda index: [np.int64(each) for each in index]]
)
def test_samples_are_known_whatever_their_integers_are(kind):
    data = TensorDataset(torch.randn(6, 2), torch.tensor([0, 1, 2, 0, 1, 2]))
    loader = DataLoader(data, batch_sampler=Batches(kind))
    queue = bdp_ext.prune(loader, loss=nn.CrossEntropyLoss(), epochs=5, level="train")
    next(iter(queue))
    (batch,) = queue.pruner._hook.recent.snapshot()
    assert batch.index.tolist() == [3, 0, 5]
    assert batch.target.tolist() == [0, 0, 2]
