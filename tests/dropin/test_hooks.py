"""The hook on the logits, beside the user's own: each of them sees its gradient, in any order."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bdp_ext

SAMPLES, BATCH, CLASSES = 8, 4, 3


class Labelled(TensorDataset):
    targets = torch.arange(SAMPLES) % CLASSES


class Subclass(Tensor):
    """Logits as a library with a tensor type of its own has them."""


@pytest.fixture
def searched():
    """Both loaders and a criterion, pruned."""
    torch.manual_seed(0)
    data = Labelled(torch.randn(SAMPLES, CLASSES), Labelled.targets)
    criterion = nn.CrossEntropyLoss()
    queues = bdp_ext.prune(DataLoader(data, BATCH), DataLoader(data, BATCH), criterion, epochs=8)
    return *queues, criterion


def leaf(images: Tensor, weight: Tensor) -> Tensor:
    return images.clone().requires_grad_()


def computed(images: Tensor, weight: Tensor) -> Tensor:
    return images + weight


def of_a_subclass(images: Tensor, weight: Tensor) -> Tensor:
    return (images + weight).as_subclass(Subclass)


def scored(train) -> int:
    pruner = train.pruner
    pruner._write_scores()
    return int((~pruner.levels["train"].pruner.window.scores[0].isnan()).sum())


@pytest.mark.parametrize("logits_of", [leaf, computed, of_a_subclass])
@pytest.mark.parametrize("when", ["never", "before", "after", "removed"])
def test_user_hooks(searched, logits_of, when):
    """A user's hook changes the gradient and can be taken off, as if ours were not there."""
    train, _, criterion = searched
    images, target = next(iter(train))
    weight = torch.zeros(CLASSES, requires_grad=True)
    bare = copy.deepcopy(criterion)
    bare._forward_hooks.clear()

    def gradient(loss: nn.Module) -> Tensor:
        logits = logits_of(images, weight)
        source = logits if logits.is_leaf else weight
        if when == "before":
            logits.register_hook(lambda grad: 3 * grad)
        value = loss(logits, target)
        if when in ("after", "removed"):
            handle = logits.register_hook(lambda grad: 3 * grad)
            if when == "removed":
                handle.remove()
        return torch.autograd.grad(value, source)[0]

    expected = gradient(bare)
    assert scored(train) == 0
    assert torch.equal(gradient(criterion), expected)
    assert scored(train) == BATCH


def test_not_reached(searched):
    train, _, criterion = searched
    images, target = next(iter(train))
    weight = torch.zeros(CLASSES, requires_grad=True)
    criterion(images + weight, target)
    assert scored(train) == 0


def test_logits_are_freed(searched):
    """What waits for a backward pass that never comes holds no graph."""
    train, _, criterion = searched
    images, target = next(iter(train))
    freed = []

    class Noted(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.sentinel = Sentinel()
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return grad

    class Sentinel:
        def __del__(self):
            freed.append(True)

    criterion(Noted.apply(images + torch.zeros(CLASSES, requires_grad=True)), target)
    assert freed == [True]  # by reference counting, before any garbage collection


def test_a_graph_that_is_kept_counts_once(searched):
    """A second backward pass through it, an epoch later, is no new score."""
    train, _, criterion = searched
    images, target = next(iter(train))
    loss = criterion(images + torch.zeros(CLASSES, requires_grad=True), target)
    loss.backward(retain_graph=True)
    loss.backward(retain_graph=True)
    assert scored(train) == BATCH
    train.pruner._end_epoch()
    loss.backward()
    train.pruner._write_scores()
    window = train.pruner.levels["train"].pruner.window
    assert window.scores[window.slot].isnan().all()


def test_a_call_without_a_row_is_passed_over(searched):
    """The samples that a loop selects for a second loss may be none."""
    train, _, criterion = searched
    images, target = next(iter(train))
    weight = torch.zeros(CLASSES, requires_grad=True)
    logits, none = images + weight, target > CLASSES
    (criterion(logits, target) + criterion(logits[none], target[none]).nan_to_num()).backward()
    assert scored(train) == BATCH


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("strided", [False, True])
def test_scores_stand_where_the_samples_do(searched, dtype, strided):
    train, _, criterion = searched
    images, target = next(iter(train))
    logits = images + torch.zeros(CLASSES, requires_grad=True)
    if strided:
        logits = torch.cat([logits, logits], 1)[:, 2 : 2 + CLASSES]
    logits = logits.to(dtype)
    criterion(logits, target).backward()
    assert scored(train) == BATCH
    row = train.pruner.levels["train"].pruner.window.scores[0]
    expected = logits.float() if dtype == torch.float64 else logits
    assert torch.equal(row[:BATCH], bdp_ext.ops.el2n(expected, target))


def test_a_sample_that_is_drawn_twice():
    """Of one batch its last row counts, of two batches the first."""
    data = Labelled(torch.randn(SAMPLES, CLASSES), Labelled.targets)
    criterion = nn.CrossEntropyLoss()
    loader = DataLoader(data, BATCH, sampler=[0, 1, 0, 2, 0, 3, 4, 5])
    train = bdp_ext.prune(loader, loss=criterion, epochs=8, level="train")
    weight = torch.randn(BATCH, CLASSES, requires_grad=True)
    expected = []
    for images, target in train:
        logits = images + weight
        criterion(logits, target).backward()
        expected.append(bdp_ext.ops.el2n(logits, target))
    row = train.pruner.levels["train"].pruner.window.scores[0]
    assert expected[0][0] != expected[0][2] == row[0] != expected[1][0]
    assert torch.equal(row[3:6], expected[1][1:])
