"""`bdp_ext.prune` in loops that pass their batches through the network in the manner of the public
ones: which pass counts, and how its samples are known."""

import random
from copy import deepcopy

import pytest
import torch
from common import BATCH, IMAGES, Images, Network, Search, begin, halves, queues, subset_queues
from torch import nn
from torch.nn import functional as F

import bdp_ext

LR = 0.05


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)
    random.seed(0)


class Tuples(Network):
    """Returns (features, logits)."""

    def forward(self, images):
        return images.mean((2, 3)), super().forward(images.float())


def step_along(model, gradients):
    with torch.no_grad():
        for weight, gradient in zip(model.weights(), gradients, strict=True):
            weight.sub_(gradient, alpha=LR)
    return model


def test_second_order_with_a_new_model():
    """quark0/darts: an unrolled model made by `new()`, and a Hessian-vector product from two more
    passes of the training batch with perturbed weights."""
    search, train_queue, valid_queue = begin(epochs=5)
    model, criterion = search.model, search.criterion

    def unrolled_model(images, target):
        logits = model(images)
        gradients = torch.autograd.grad(model._criterion(logits, target), model.weights())
        search.forward("train", images, logits, target)  # the first pass of this batch
        fresh = model.new()
        fresh.load_state_dict(model.state_dict())
        return step_along(fresh, gradients)

    def hessian_vector_product(vector, images, target, r=1e-2):
        step = r / torch.cat([direction.flatten() for direction in vector]).norm()
        gradients = []
        for move in (step, -2 * step, step):
            for weight, direction in zip(model.weights(), vector, strict=True):
                weight.data.add_(direction, alpha=float(move))
            loss = model._loss(images, target)
            gradients.append(torch.autograd.grad(loss, model.alphas)[0])
        return (gradients[0] - gradients[1]) / (2 * step)

    for _ in range(5):
        for input, target in train_queue:
            input_search, target_search = next(iter(valid_queue))
            unrolled = unrolled_model(input, target)
            logits = unrolled(input_search)
            unrolled._criterion(logits, target_search).backward()
            search.forward("valid", input_search, logits, target_search)
            vector = [weight.grad.data for weight in unrolled.weights()]
            implicit = hessian_vector_product(vector, input, target)
            model.alphas.grad = unrolled.alphas.grad - LR * implicit
            search.optimizers["valid"].step()

            search.optimizers["train"].zero_grad()
            criterion(model(input), target).backward()  # a later pass of this batch: no score
            search.optimizers["train"].step()
        search.end_epoch()
    search.finish(train_queue)


def test_second_order_with_a_deep_copy():
    """A deep copy of the model, its criterion and hooks included; the weight step comes first, as
    in AutoDL-Projects."""
    criterion = nn.CrossEntropyLoss()
    search, train_queue, valid_queue = begin(epochs=5, criterion=criterion)
    model = deepcopy(search.model)
    search.set_up(model, model._criterion)  # and the hooked one is gone
    del criterion
    for _ in range(5):
        for input, target in train_queue:
            input_search, target_search = next(iter(valid_queue))
            search.step("train", input, target)

            gradients = torch.autograd.grad(model._loss(input, target), model.weights())
            unrolled = step_along(deepcopy(model), gradients)
            logits = unrolled(input_search)
            unrolled._criterion(logits, target_search).backward()
            search.forward("valid", input_search, logits, target_search)
            model.alphas.grad = unrolled.alphas.grad
            search.optimizers["valid"].step()
        search.end_epoch()
    search.finish(train_queue)


class Whole(Network):
    """Takes a batch and returns its loss."""

    def forward(self, batch):
        self.logits = super().forward(batch["image"])
        return self._criterion(input=self.logits, target=batch["label"])


def as_dictionary(items):
    images, labels = zip(*items, strict=True)
    return {"size": len(items), "label": torch.tensor(labels), "image": torch.stack(images)}


def test_criterion_inside():
    """The criterion is a part of the model, whose forward pass returns the loss; the loop breaks
    off after a fixed number of steps, and the batches are dictionaries from worker processes that
    live on."""
    criterion, half = nn.CrossEntropyLoss(), range(IMAGES // 2)
    search, train_queue, valid_queue = begin(
        epochs=7,
        model=Whole(criterion),
        criterion=criterion,
        given=subset_queues(num_workers=2, persistent_workers=True, collate_fn=as_dictionary),
        oracle={"members": {"train": half, "valid": half}, "first": {"valid": len(half)}},
    )
    for _ in range(7):
        valid_iter = iter(valid_queue)
        for step, batch in enumerate(train_queue):
            for level, part in (("valid", next(valid_iter)), ("train", batch)):
                search.optimizers[level].zero_grad()
                search.model(part).backward()
                search.optimizers[level].step()
                search.forward(level, part["image"], search.model.logits, part["label"])
            if step + 1 == min(3, len(train_queue), len(valid_queue)):
                break
        del valid_iter
        search.end_epoch()
    search.finish(train_queue)


def test_functional_loss():
    """The loss is a function (`F.cross_entropy`), so the model is hooked; it returns (features,
    logits), an unrolled copy of it scores the validation level, and one loss smooths labels."""
    model = Tuples()
    hooked = {"model": model, "logits": 1}
    search, train_queue, valid_queue = begin(epochs=5, model=model, hooked=hooked)
    for epoch in range(5):
        for (input, target), (input_search, target_search) in zip(
            train_queue, valid_queue, strict=False
        ):
            if epoch % 2:  # as a copy to a device makes them: another tensor
                input, input_search = input.clone(), input_search.clone()
            if epoch == 3:  # and in less precision
                input, input_search = input.bfloat16(), input_search.bfloat16()
            unrolled = deepcopy(model)
            _, logits = unrolled(input_search)
            F.cross_entropy(logits, target_search, label_smoothing=0.1).backward()
            search.forward("valid", input_search, logits, target_search)
            model.alphas.grad = unrolled.alphas.grad
            search.optimizers["valid"].step()
            search.optimizers["train"].zero_grad()
            _, logits = model(input)
            F.cross_entropy(logits, target).backward()
            search.forward("train", input, logits, target)
            search.optimizers["train"].step()
            with torch.no_grad():
                model(input)
        search.end_epoch()
    search.finish(train_queue)


def test_moved_targets():
    """Batches copied on their way, as `.cuda()` does on a GPU: known again by their labels. A batch
    is passed twice, and the backward pass of the first comes last. A second criterion smooths
    labels. Double precision."""
    criterion, smooth = nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.1)
    model = Network(criterion).double()
    search, train_queue, valid_queue = begin(epochs=5, model=model, loss=(criterion, smooth))
    for _ in range(5):
        for input, target in train_queue:
            input_search, target_search = next(iter(valid_queue))
            input, target = input.double(), target.clone()
            input_search, target_search = input_search.double(), target_search.clone()
            model.zero_grad()
            logits = model(input)
            first = smooth(logits, target.view(-1))
            search.forward("train", input, logits, target)
            logits = model(input_search)
            criterion(logits, target=target_search).backward()
            search.forward("valid", input_search, logits, target_search)
            criterion(model(input), target).backward()
            first.backward()  # the first pass, though its backward pass came last
            for optimizer in search.optimizers.values():
                optimizer.step()
        search.end_epoch()
    search.finish(train_queue)


class Numbered(Images):
    def __getitem__(self, index):
        return (*super().__getitem__(index), index)


def test_observed():
    """A loop that no hook fits: its data set gives the samples' numbers, the logits are mixed up by
    the loop, and it scores them itself."""
    search, train_queue, valid_queue = begin(epochs=5, given=queues(Numbered()), hooked={})
    for _ in range(5):
        for (input, target, index), (input_search, target_search, index_search) in zip(
            train_queue, valid_queue, strict=False
        ):
            search.optimizers["train"].zero_grad()
            logits = search.model(torch.cat([input, input_search]))
            mine, other = logits.split([len(input), len(input_search)])
            bdp_ext.observe("train", index, mine, target)
            bdp_ext.observe("valid", index_search, other, target_search)
            (F.cross_entropy(mine, target) - other.mean()).backward()
            search.forward("train", input, mine, target)
            search.forward("valid", input_search, other, target_search)
            search.optimizers["train"].step()
        train_queue.pruner.end_epoch()
        search.end_epoch()
    search.finish(train_queue)


class SearchDataset(torch.utils.data.Dataset):
    """AutoDL-Projects'."""

    def __init__(self, data, train_split, valid_split):
        self.data = data
        self.train_split, self.valid_split = list(train_split), list(valid_split)

    def __len__(self):
        return len(self.train_split)

    def __getitem__(self, index):
        assert 0 <= index < len(self)
        train_image, train_label = self.data[self.train_split[index]]
        valid_image, valid_label = self.data[random.choice(self.valid_split)]
        return train_image, train_label, valid_image, valid_label


@pytest.mark.parametrize("workers", [0, 2])
def test_one_loader(workers):
    """AutoDL-Projects: one loader yields both levels; the data set draws the second half at random,
    in worker processes. The model returns (features, logits)."""
    criterion, model = nn.CrossEntropyLoss(), Tuples()
    data = SearchDataset(Images(), *halves().values())
    loader = torch.utils.data.DataLoader(
        data, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    search_loader = bdp_ext.prune(loader, loss=criterion, epochs=5, interval=2, balance="none")
    assert search_loader.dataset is data
    search = Search(search_loader.pruner)
    search.set_up(model, criterion)
    for _ in range(5):
        steps = 0
        for base_inputs, base_targets, arch_inputs, arch_targets in search_loader:
            steps += 1
            for level, images, target in (
                ("train", base_inputs, base_targets),
                ("valid", arch_inputs, arch_targets),
            ):
                search.optimizers[level].zero_grad()
                _, logits = model(images)
                criterion(logits, target).backward()
                search.forward(level, images, logits, target)
                search.optimizers[level].step()
        assert steps == -(-len(search.live["train"]) // BATCH)
        search.end_epoch()
    search.finish(search_loader)
