"""The loaders in place of the given ones: any sampler, batch sampler, collate and workers; lengths;
bit-identical with pruning off; the handle's state; what labels are found."""

import copy
import gc
import pickle
import random
from itertools import chain

import pytest
import torch
from common import CLASSES, Images, Network, loop, numbers, queues
from torch import nn
from torch.utils.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    SequentialSampler,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import bdp_ext

N, SIZE = 60, 8


class Own:
    """A batch sampler of one's own: two batches of each size, in random order."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        order = random.sample(range(self.samples), self.samples)
        return iter([order[i : i + SIZE] for i in range(0, self.samples, SIZE)])

    def __len__(self):
        return -(-self.samples // SIZE)


def named(samples):
    images, labels, index = zip(*samples, strict=True)
    return {"index": torch.tensor(index), "image": torch.stack(images), "y": torch.tensor(labels)}


class Graphs:
    """A batch as PyTorch Geometric makes it: no `Mapping`, but with keys."""

    def __init__(self, samples):
        self._store = named(samples)

    def keys(self):
        return list(self._store)

    def __getitem__(self, key):
        return self._store[key]


class Numbered(Images):
    def __getitem__(self, index):
        return (*super().__getitem__(int(index)), int(index))


class Listed(Numbered):
    """Makes the batches itself."""

    def __getitem__(self, index):
        return self.images[index], torch.tensor(self.targets)[index], torch.tensor(index)


class Rebuilt(DataLoader):
    """A loader class of the user's own."""

    def __iter__(self):
        yield from super().__iter__()


LOADERS = {
    "random": lambda d: DataLoader(d, SIZE, shuffle=True),
    "sequential": lambda d: DataLoader(d, SIZE, sampler=SequentialSampler(d)),
    "weighted": lambda d: DataLoader(d, SIZE, sampler=WeightedRandomSampler([1.0] * N, N)),
    "fewer": lambda d: DataLoader(d, SIZE, sampler=RandomSampler(d, num_samples=N // 2)),
    "distributed": lambda d: DataLoader(d, SIZE, sampler=DistributedSampler(d, 2, 0)),
    "drop_last": lambda d: DataLoader(d, SIZE, shuffle=True, drop_last=True),
    "listed": lambda d: DataLoader(
        Listed(N), sampler=BatchSampler(RandomSampler(d), SIZE, False), batch_size=None
    ),
    "own_batches": lambda d: DataLoader(d, batch_sampler=Own(N)),
    "own_class": lambda d: Rebuilt(d, SIZE, shuffle=True),
    "collate": lambda d: DataLoader(d, SIZE, shuffle=True, collate_fn=named),
    "keys": lambda d: DataLoader(d, SIZE, shuffle=True, collate_fn=Graphs),
    "workers": lambda d: DataLoader(d, SIZE, shuffle=True, num_workers=2),
    "persistent": lambda d: DataLoader(
        d, SIZE, shuffle=True, num_workers=2, persistent_workers=True
    ),
    "generator": lambda d: DataLoader(
        d, SIZE, shuffle=True, generator=torch.Generator().manual_seed(3)
    ),
}


def train(queue, criterion, weight):
    """One epoch; the samples drawn, and the losses."""
    drawn, losses = [], []
    for batch in queue:
        if isinstance(batch, (dict, Graphs)):
            images, target, index = batch["image"], batch["y"], batch["index"]
        else:
            images, target, *rest = batch
            index = rest[0] if rest else torch.tensor(numbers(images))
        drawn.append(index.tolist())
        loss = criterion(images.mean((2, 3)) @ weight, target)
        losses.append(loss.item())
        weight.grad = None
        loss.backward()
        with torch.no_grad():
            weight -= 0.5 * weight.grad
    return drawn, losses


def pruned(name, data=None, **options):
    data = Numbered(N) if data is None else data
    loader, criterion = LOADERS[name](data), nn.CrossEntropyLoss()
    given = {"epochs": 5, "interval": 2, "level": "train", "balance": "none", **options}
    return bdp_ext.prune(loader, loss=criterion, **given), loader, criterion


def weight():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, CLASSES, generator=generator).requires_grad_()


@pytest.mark.parametrize("name", LOADERS)
def test_off_is_bit_identical_to_no_call(name):
    results = []
    for off in (False, True):
        torch.manual_seed(1)
        random.seed(1)
        data = Numbered(N)
        if off:
            queue, _, criterion = pruned(name, data, prune_train=0)
        else:
            queue, criterion = LOADERS[name](data), nn.CrossEntropyLoss()
        parameter, seen = weight(), []
        for _ in range(4):
            seen.append((len(queue), train(queue, criterion, parameter)))
        results.append((seen, torch.rand(3).tolist(), random.random()))
    assert results[0] == results[1]


@pytest.mark.parametrize("name", LOADERS)
def test_draws_live_samples_in_as_many_batches_as_it_says(name):
    torch.manual_seed(1)
    queue, loader, criterion = pruned(name)
    assert isinstance(queue, type(loader))
    assert queue.dataset is loader.dataset
    assert queue.batch_size == loader.batch_size
    parameter = weight()
    repeats = name in ("weighted", "fewer", "distributed")
    for epoch in range(5):
        live = queue.pruner.live_indices["train"].tolist()
        length = len(queue)
        drawn, _ = train(queue, criterion, parameter)
        flat = list(chain(*drawn))
        assert len(drawn) == length
        assert set(flat) <= set(live)
        if name == "drop_last":
            assert len(flat) == len(live) // SIZE * SIZE
        elif not repeats:
            assert sorted(flat) == live
        elif name != "distributed":
            share = len(live) / N * (0.5 if name == "fewer" else 1)
            assert len(flat) == round(share * N)
        assert queue.pruner.epoch == epoch + 1
    assert len(queue.pruner.live_indices["train"]) < N
    assert len(loader) == -(-N // SIZE) or name in ("drop_last", "distributed", "fewer")
    assert all(row["taken"] <= row["num_requested"] for row in queue.pruner.report())


def test_a_single_sample_left_over_is_not_a_batch():
    data = TensorDataset(torch.randn(24, 2), torch.arange(24) % 2)
    queue, _, criterion = pruned("random", data, prune_train=0.29)  # 24 -> 18 -> 13 -> ...
    parameter = torch.zeros(2, 2, requires_grad=True)
    for _ in range(2):
        for images, target in queue:
            criterion(images @ parameter, target).backward()
    assert len(queue.pruner.live_indices["train"]) == 18
    assert [len(batch[1]) for batch in queue] == [8, 8, 2]
    queue.pruner.levels["train"].pruner.history.epoch[queue.pruner.live_indices["train"][0]] = 1
    queue.pruner.levels["train"].renew()
    assert len(queue) == 2
    assert [len(batch[1]) for batch in queue] == [8, 8]


def test_a_pruned_sample_leaves_the_pass_under_way():
    train_queue, valid_queue = queues()
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, valid_queue = bdp_ext.prune(train_queue, valid_queue, criterion, epochs=4)
    for _ in range(2):
        loop(train_queue, iter(valid_queue), criterion, model=model)
    pending = iter(valid_queue)
    live = set(train_queue.pruner.live_indices["valid"].tolist())
    assert len(live) == 80 - 24
    seen = {number for images, _ in pending for number in numbers(images)}
    assert seen == live


def test_two_passes_at_once():
    queue, _, _ = pruned("random", prune_train=0)
    torch.manual_seed(1)
    first, second = iter(queue), iter(queue)
    one, two = next(first), next(second)
    next(first), next(second)
    assert one[2].tolist() != two[2].tolist()
    recent = queue.pruner._hook.recent.snapshot()
    for drawn, batch in zip(recent[:1:-1], (one, two), strict=True):
        assert drawn.index.equal(batch[2])


def test_failing_batches_do_not_shift_the_samples():
    class Failing(Numbered):
        def __getitem__(self, index):
            if index in (3, 20):
                raise KeyError(index)
            return super().__getitem__(index)

    queue, _, _ = pruned("sequential", Failing(N), prune_train=0)
    batches, good = iter(queue), []
    for _ in range(8):
        try:
            good.append(next(batches))
        except KeyError:
            continue
    assert [batch[2][0].item() for batch in good] == [8, 24, 32, 40, 48, 56]
    for drawn, batch in zip(reversed(queue.pruner._hook.recent.snapshot()), good, strict=True):
        assert drawn.index.equal(batch[2])


def test_state_resumes_to_the_same_samples():
    def fresh():
        torch.manual_seed(1)
        return pruned("random", epochs=9)

    whole, _, criterion = fresh()
    parameter = weight()
    for _ in range(5):
        train(whole, criterion, parameter)
    state, random_state = copy.deepcopy(whole.pruner.state_dict()), torch.get_rng_state()
    resumed_parameter = parameter.detach().clone().requires_grad_()
    for _ in range(4):
        train(whole, criterion, parameter)

    resumed, _, criterion = fresh()
    resumed.pruner.load_state_dict(state)
    torch.set_rng_state(random_state)
    assert len(resumed.pruner.live_indices["train"]) < N
    for _ in range(4):
        train(resumed, criterion, resumed_parameter)
    assert torch.equal(whole.pruner.live_indices["train"], resumed.pruner.live_indices["train"])
    assert whole.pruner.report() == resumed.pruner.report()


@pytest.mark.parametrize(("level", "other"), [("train", "valid"), ("valid", "train")])
def test_only_one_level(level, other):
    criterion = nn.CrossEntropyLoss()
    both = bdp_ext.prune(*queues(), criterion, epochs=3, level=level)
    loop(*both, criterion, epochs=3)
    sizes = {name: len(live) for name, live in both[0].pruner.live_indices.items()}
    assert sizes == {level: 56, other: 80}


def test_a_hooked_criterion_can_be_copied_and_pickled():
    queue, _, criterion = pruned("random", prune_train=0)
    watch = queue.pruner._hook
    copied = copy.deepcopy(nn.Sequential(criterion))
    copied[0](torch.randn(2, 3), torch.tensor([0, 1]))
    assert watch.calls == 1
    pickle.loads(pickle.dumps(criterion))(torch.randn(2, 3), torch.tensor([0, 1]))
    assert watch.calls == 1


def test_hooks_go_silent_with_their_loaders():
    queue, _, criterion = pruned("random", prune_train=0)
    watch = queue.pruner._hook
    del queue
    gc.collect()
    criterion(torch.randn(2, 3), torch.tensor([0, 1]))
    assert watch.calls == 0  # held here, and told of no pass
    del watch
    gc.collect()
    criterion(torch.randn(2, 3), torch.tensor([0, 1]))


@pytest.mark.parametrize(
    "make",
    [
        lambda x, y: TensorDataset(x, y),
        lambda x, y: Subset(TensorDataset(x.repeat(2, 1), y.repeat(2)), range(len(y))),
        lambda x, y: ConcatDataset([TensorDataset(x[:9], y[:9]), TensorDataset(x[9:], y[9:])]),
        lambda x, y: With(x, y, "labels", y.numpy()),
        lambda x, y: With(x, y, "samples", [("file", label) for label in y.tolist()]),
        lambda x, y: With(x, y, "img_list", [("file", label) for label in y.tolist()]),
        lambda x, y: With(x, y, "inner", TensorDataset(x, y)),
        lambda x, y: With(x, y, "targets", (1 - y).tolist(), target_transform=lambda t: 1 - t),
        lambda x, y: With(x, y, "labels", y.view(-1, 1).tolist()),
    ],
)
def test_labels_are_found(make):
    x, y = torch.randn(40, 2), torch.arange(40) % 2
    queue, _, criterion = pruned("random", make(x, y))
    assert queue.pruner.levels["train"].labels.tolist() == y.tolist()
    parameter = torch.zeros(2, 2, requires_grad=True)
    for images, target in queue:
        criterion(images @ parameter, target).backward()
    assert queue.pruner.epoch == 1


class With(torch.utils.data.Dataset):
    def __init__(self, x, y, name, value, **more):
        self.x, self._y_of_items = x, y
        setattr(self, name, value)
        self.__dict__.update(more)

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.x[index], int(self._y_of_items[index])
