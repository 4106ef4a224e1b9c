"""What `bdp_ext.prune` refuses: one sentence that names the fix, at the call or in the first
epoch."""

from functools import partial
from itertools import islice

import pytest
import torch
import torch.nn.functional as F
from common import BATCH, Images, Network, loop, numbers, queues
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

import bdp_ext
from bdp_ext.dropin import api


class Endless(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3), 0


class Bare(torch.utils.data.Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        return torch.zeros(3), index % 2


class Half(torch.utils.data.Sampler):
    def __iter__(self):
        return iter(range(0, 160, 2))

    def __len__(self):
        return 80


class Infinite(torch.utils.data.Sampler):
    def __iter__(self):
        while True:
            yield 0


class HalfBatches(Half):
    def __iter__(self):
        return iter([[i, i + 2] for i in range(0, 80, 4)])


class Named(Half):
    """Draws more than a number."""

    indices = range(80)

    def __iter__(self):
        return ((index, "crop") for index in self.indices)


class Cropped(Images):
    def __getitem__(self, index):
        return super().__getitem__(index[0])


class Shifted(Images):
    """Yields other labels than it keeps."""

    def __getitem__(self, index):
        images, label = super().__getitem__(index)
        return images, (label + 1) % 4


class Hidden:
    """A batch that keeps its tensors to itself."""

    def __init__(self, samples):
        self.samples = samples


class Auxiliary(Network):
    def forward(self, images):
        logits = super().forward(images)
        return logits, 2 * logits


class Mean(nn.Module):
    def forward(self, logits, target):
        return logits.mean()


def call(train=None, valid=None, **options):
    train_queue, valid_queue = queues()
    given = {"loss": nn.CrossEntropyLoss(), "epochs": 10, **options}
    train_queue = train_queue if train is None else train
    return bdp_ext.prune(train_queue, valid_queue if valid is None else valid, **given)


LOADER = DataLoader(Images(), BATCH)


@pytest.mark.parametrize(
    ("options", "error", "fix"),
    [
        ({"train": DataLoader(Endless())}, ValueError, "use a map-style data set"),
        ({"train": DataLoader(Bare())}, ValueError, r"pass labels=\(train_labels"),
        ({"train": DataLoader(Bare()), "labels": ([0, 1], None)}, ValueError, "one class per"),
        ({"train": DataLoader(Images(), batch_size=None)}, ValueError, "give it a batch_size"),
        ({"train": DataLoader(Images(), 8, sampler=Half())}, ValueError, r"pass indices=\(train"),
        ({"train": DataLoader(Images(), 8, sampler=Infinite())}, ValueError, "give it __len__"),
        ({"indices": ([999], None)}, ValueError, r"pass indices=\(train"),
        ({"train": [1, 2]}, TypeError, "right after the loaders are built"),
        ({"train": LOADER, "valid": LOADER}, ValueError, "build a second DataLoader"),
        ({"valid": nn.CrossEntropyLoss()}, TypeError, "pass loss=... by name"),
        ({"epochs": 1}, ValueError, "search longer"),
        ({"epochs": 2}, ValueError, "take three epochs or more"),
        ({"epochs": (10, 1)}, ValueError, "search longer"),
        ({"epochs": 9, "unit": "step"}, ValueError, "search longer"),
        ({"interval": 10}, ValueError, "take a shorter interval"),
        ({"epochs": (3, 3), "interval": 4}, ValueError, "take a shorter interval"),
        ({"alpha_start": 9}, ValueError, "the valid level: .* leave no pruning"),
        ({"interval": 1}, ValueError, "interval must be at least 2"),
        ({"prune_train": 2.0}, ValueError, "the train level: the share to prune"),
        ({"keep_valid": 0.5, "prune_valid": 0.1}, ValueError, "the valid level: give either"),
        ({"level": "weights"}, ValueError, "level must be"),
        ({"criterion": "lowest"}, ValueError, "third argument or as loss="),
        ({"criterion": nn.CrossEntropyLoss()}, ValueError, "third argument or as loss="),
        ({"unit": "hour"}, ValueError, "unit must be"),
        ({"balance": "fair"}, ValueError, "balance must be"),
        ({"loss": F.cross_entropy}, TypeError, "pass model= instead"),
        ({"model": Network()}, TypeError, "not both"),
    ],
)
def test_refuses_at_the_call(options, error, fix):
    with pytest.raises(error, match=fix) as caught:
        call(**options)
    assert "\n" not in str(caught.value)


def test_one_loader_needs_to_know_its_second_half():
    criterion = nn.CrossEntropyLoss()
    with pytest.raises(ValueError, match=r"pass valid=\(its data set"):
        bdp_ext.prune(DataLoader(Images()), loss=criterion, epochs=10)
    with pytest.raises(ValueError, match="needs both queues"):
        bdp_ext.prune(DataLoader(Images()), loss=criterion, epochs=10, level="valid")


def test_observe_without_a_pruner(monkeypatch):
    monkeypatch.setattr(api, "_newest", None)
    with pytest.raises(RuntimeError, match=r"call bdp_ext.prune\(train_queue, .*\) first"):
        bdp_ext.observe("train", None, None, None)


def whole(train_queue, loss, model):
    for images, target in train_queue:
        loss(model(images), target).backward()


def broken_off(train_queue, loss, model):
    for _ in range(2):
        whole(islice(train_queue, 2), loss, model)


def drawn_by_next_iter(train_queue, loss, model):
    whole((next(iter(train_queue)) for _ in range(2 * len(train_queue))), loss, model)


@pytest.mark.parametrize("epoch", [whole, broken_off, drawn_by_next_iter])
def test_a_criterion_never_called_is_said_at_the_end_of_the_first_epoch(epoch):
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, valid_queue = call(loss=criterion)
    with torch.no_grad():
        for images, target in valid_queue:  # before the first epoch does not count
            criterion(model(images), target)
    with pytest.raises(RuntimeError, match="never called in the first epoch; pass the criterion"):
        epoch(train_queue, nn.CrossEntropyLoss(), model)
    assert train_queue.pruner.epoch == 0


def test_a_model_never_called():
    train_queue, valid_queue = call(loss=None, model=Network())
    with pytest.raises(RuntimeError, match="the model was never called in the first epoch"):
        loop(train_queue, valid_queue, F.cross_entropy)


def test_weights_trained_with_another_criterion():
    criterion, smooth = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)
    train_queue, valid_queue = call(loss=criterion)
    model = Network()

    def both(logits, target):
        search, labels = next(iter(valid_queue))
        return criterion(model(search), labels) + smooth(logits, target)

    with pytest.raises(RuntimeError, match=r"pass both, as in .*\(criterion, other_criterion\)"):
        whole(train_queue, both, model)


def test_weights_observed_and_alpha_hooked():
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, valid_queue = call(loss=criterion, unit="manual", epochs=3)
    for _ in range(3):
        for images, target in train_queue:
            search, labels = next(iter(valid_queue))
            criterion(model(search), labels).backward()
            logits = model(images)
            F.cross_entropy(logits, target).backward()
            bdp_ext.observe("train", torch.tensor(numbers(images)), logits, target)
        train_queue.pruner.end_epoch()
    assert {level: len(live) for level, live in train_queue.pruner.live_indices.items()} == {
        "train": 56, "valid": 56,
    }  # fmt: skip


def test_new_loaders_draw_the_same_samples():
    train_queue, valid_queue = call()
    pruner = train_queue.pruner
    with pytest.raises(ValueError, match="the new train loader draws other samples"):
        pruner.adopt(*reversed(queues()))
    with pytest.raises(ValueError, match="the new valid loader draws other samples"):
        pruner.adopt(queues()[0], DataLoader(Images(100), 8))
    with pytest.raises(ValueError, match="build a second DataLoader"):
        pruner.adopt(train_queue, train_queue)
    again, _ = pruner.adopt(train_queue, valid_queue)
    assert again.unpruned is train_queue.unpruned


def test_statistics_before_the_search():
    train_queue, valid_queue = call(loss=(criterion := nn.CrossEntropyLoss()))
    with pytest.raises(RuntimeError, match=r"for statistics of the data iterate .*unpruned"):
        sum(images.mean() for images, _ in train_queue)
    train_queue, valid_queue = call(loss=criterion)
    sum(images.mean() for images, _ in train_queue.unpruned)
    loop(train_queue, valid_queue, criterion)
    assert train_queue.pruner.epoch == 1


def chunks(criterion, logits, target):
    return sum(criterion(a, b) for a, b in zip(logits.split(4), target.split(4), strict=True))


def soft(criterion, logits, target):
    return criterion(logits, F.one_hot(target, logits.shape[1]).float())


def mixup(criterion, logits, target):
    return 0.7 * criterion(logits, target) + 0.3 * criterion(logits, target.flip(0))


def per_pixel(criterion, logits, target):
    return criterion(logits[:, :, None].expand(-1, -1, 3), target)


@pytest.mark.parametrize(
    ("loss", "criterion", "fix"),
    [
        (chunks, nn.CrossEntropyLoss, "never with the labels of a batch"),
        (soft, nn.CrossEntropyLoss, "without one class per sample"),
        (mixup, nn.CrossEntropyLoss, "two different targets"),
        (per_pixel, Mean, r"logits must be \[batch, classes\]"),
    ],
)
def test_refuses_a_call_of_the_criterion(loss, criterion, fix):
    criterion = criterion()
    train_queue, valid_queue = call(loss=criterion)
    with pytest.raises(RuntimeError, match=fix):
        loop(train_queue, valid_queue, partial(loss, criterion))


def test_inputs_changed_in_place():
    model = Network()
    train_queue, _valid_queue = call(loss=None, model=model)
    with pytest.raises(RuntimeError, match="never with the inputs of a batch"):
        whole(train_queue, F.cross_entropy, lambda images: model(images.sub_(0.5)))


def test_a_model_with_several_outputs():
    model = Auxiliary()
    train_queue, valid_queue = call(loss=None, model=model)
    with pytest.raises(RuntimeError, match="say which with logits="):
        loop(train_queue, valid_queue, lambda z, y: F.cross_entropy(z[0], y), model=model)


def mixed(items):
    images, labels = torch.utils.data.default_collate(items)
    return images, F.one_hot(labels, 4).float()


def one_dropped(items):
    return torch.utils.data.default_collate(
        items if numbers(items[0][0][None]) == [0] else items[1:]
    )


@pytest.mark.parametrize(
    ("data", "options", "error", "fix"),
    [
        (Images(), {"collate_fn": mixed}, RuntimeError, "yields no class per sample"),
        (Images(), {"collate_fn": one_dropped}, RuntimeError, "drew 16 samples and yielded 15"),
        (Images(), {"collate_fn": Hidden}, RuntimeError, r"no tensor .* a Hidden; .* with keys"),
        (Shifted(), {}, RuntimeError, "labels other than its data set keeps"),
        (Cropped(), {"sampler": Named()}, TypeError, r"a sampler draws \(0, 'crop'\), and samples"),
    ],
)
def test_refuses_a_batch(data, options, error, fix):
    train_queue, _ = call(train=DataLoader(data, BATCH, **options))
    with pytest.raises(error, match=fix):
        list(train_queue)


def test_a_batch_sampler_that_draws_a_part():
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, _ = call(train=DataLoader(Images(), batch_sampler=HalfBatches()), loss=criterion)
    with pytest.raises(RuntimeError, match="drew 40 of 160 samples"):
        whole(train_queue, criterion, model)


def test_the_clock_runs_by_itself_or_by_hand():
    train_queue, _valid_queue = call()
    with pytest.raises(RuntimeError, match="pass unit='manual'"):
        train_queue.pruner.end_epoch()
    train_queue, _valid_queue = call(loss=None)
    with pytest.raises(RuntimeError, match="nothing was scored in the first epoch"):
        train_queue.pruner.end_epoch()


def test_observe_refuses_other_samples():
    _queues = call()
    with pytest.raises(ValueError, match="not in level train"):
        bdp_ext.observe("train", torch.tensor([80]), torch.zeros(1, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match="level must be"):
        bdp_ext.observe("test", torch.tensor([80]), torch.zeros(1, 4), torch.tensor([0]))


def test_auxiliary_heads_and_label_smoothing_score_the_first_call_against_the_class():
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    train_queue, _valid_queue = call(loss=criterion)
    pruner, model = train_queue.pruner, Network()
    images, target = next(iter(train_queue))
    logits = model(images)
    loss = criterion(logits, target) + 0.4 * criterion(logits * 2, target)
    loss.backward()
    pruner.state_dict()
    level = pruner.levels["train"]
    index = (images[:, 0, 0, 0] * 1024).round().long()
    scores = level.pruner.window.scores[0, level.position[index]]
    assert torch.equal(scores, bdp_ext.ops.el2n(logits, target))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_diverged_loop_is_told_so(bad):
    model, criterion = nn.Linear(5, 4), nn.CrossEntropyLoss()
    data = torch.utils.data.TensorDataset(torch.randn(40, 5), torch.arange(40) % 4)
    data.targets = data.tensors[1]
    train, valid = (DataLoader(data, 10) for _ in range(2))
    train, valid = bdp_ext.prune(train, valid, criterion, epochs=6)

    def search():
        for epoch in range(3):
            for (images, target), (search_images, search_target) in zip(train, valid, strict=True):
                criterion(model(search_images), search_target).backward()
                criterion(model(images) * (bad if epoch else 1), target).backward()

    with pytest.raises(RuntimeError, match="in epoch 2 logits of the train queue are NaN or inf"):
        search()
