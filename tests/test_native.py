"""What the drop-in has of the compiled library, beside the same in Python."""

import importlib
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bdp_ext
from bdp_ext.dropin import _native
from bdp_ext.dropin._drawn import as_tensor
from bdp_ext.ops import libraries

pytestmark = pytest.mark.skipif(not libraries.loaded("cpu"), reason="needs the compiled library")

CLASSES = 5


@pytest.fixture
def plain(monkeypatch):
    """The package as it is where the library is missing."""
    with monkeypatch.context() as inside:
        for name in [name for name in sys.modules if name.startswith("bdp_ext.dropin")]:
            inside.delitem(sys.modules, name)
        inside.setattr(libraries, "loaded", lambda name: False)
        inside.setattr(bdp_ext, "dropin", None)
        importlib.import_module("bdp_ext.dropin.api")
        package = sys.modules["bdp_ext.dropin"]
        for name in [name for name in sys.modules if name.startswith("bdp_ext.dropin")]:
            inside.delitem(sys.modules, name)
    return package


def test_an_index_is_packed_whatever_its_integers_are(plain):
    whole = [3, -1, (1 << 31) - 1, -(1 << 31)]
    for index in whole, tuple(whole), torch.tensor(whole), [np.int64(i) for i in whole]:
        assert as_tensor(_native.pack_index(index)).tolist() == whole
        assert plain._native.pack_index(index) == _native.pack_index(index)
    assert _native.pack_index([]) == b""
    for error, wrong in (TypeError, [1.0]), (TypeError, [(1, 2)]), (OverflowError, [1 << 31]):
        for pack in _native.pack_index, plain._native.pack_index:
            with pytest.raises(error):
                pack(wrong)


def search(prune):
    """Two levels of 40 samples, 4 epochs: what is left, and the last window."""
    torch.manual_seed(0)
    net, criterion = nn.Linear(6, CLASSES), nn.CrossEntropyLoss()
    queues = [
        DataLoader(TensorDataset(torch.randn(40, 6), torch.arange(40) % CLASSES), 8, shuffle=True)
        for _ in range(2)
    ]
    train, valid = prune(*queues, criterion, epochs=6, interval=2, prune_train=0.25)
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    for _ in range(5):
        for batch, other in zip(train, valid, strict=False):
            for inputs, target in (batch, other):
                optimizer.zero_grad()
                criterion(net(inputs), target).backward()
                optimizer.step()
    windows = {name: level.pruner.window for name, level in train.pruner.levels.items()}
    return train.pruner, windows


def test_a_search_without_the_library_is_the_same(plain):
    fast, fast_windows = search(bdp_ext.prune)
    slow, slow_windows = search(plain.api.prune)
    assert not issubclass(plain._hooks.Watch, _native.Watch)
    assert fast.report() == slow.report()
    assert len(fast.report()) == 4
    for name, live in fast.live_indices.items():
        assert torch.equal(live, slow.live_indices[name])
        ours, theirs = fast_windows[name], slow_windows[name]
        torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=0, equal_nan=True)
        ours.settle(), theirs.settle()  # of samples that this epoch has not shown yet, too
        torch.testing.assert_close(ours.voe, theirs.voe, rtol=0, atol=0, equal_nan=True)
