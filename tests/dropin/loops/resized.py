"""ProxylessNAS: the loop sets the validation queue's batch size and `drop_last` for its alpha steps
and again for its evaluations; its batches come from an iterator that outlives epochs, and label
smoothing is a function."""

import torch
from common import Network, Oracle, members, queues
from torch.nn import functional as F

import bdp_ext

EPOCHS, ALPHA_BATCH, TEST_BATCH = 5, 10, 32


def smoothed(logits, target, smoothing=0.1):
    soft = torch.full_like(logits, smoothing / logits.shape[1])
    soft.scatter_add_(1, target[:, None], torch.full_like(target[:, None], 1 - smoothing).float())
    return -(soft * F.log_softmax(logits, 1)).sum(1).mean()


class Batches:
    def __init__(self, queue):
        self.queue, self.iterator = queue, None

    def resize(self, size, drop_last):
        self.queue.batch_sampler.batch_size = size
        self.queue.batch_sampler.drop_last = drop_last

    def next(self):
        if self.iterator is None:
            self.iterator = iter(self.queue)
        try:
            return next(self.iterator)
        except StopIteration:
            self.iterator = iter(self.queue)
            return next(self.iterator)


def search(prune):
    torch.manual_seed(0)
    model, criterion = Network(), torch.nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
    alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
    given = train_queue, valid_queue = queues()
    oracle, losses, sizes = None, [], []
    if prune is not None:
        train_queue, valid_queue = bdp_ext.prune(
            train_queue, valid_queue, model=model, epochs=EPOCHS, interval=2, balance="none",
            prune_train=prune, prune_valid=prune,
        )  # fmt: skip
        oracle = Oracle(train_queue.pruner, members(), (2, 4), 2, ratio=prune)
    batches = Batches(valid_queue)
    for _ in range(EPOCHS):
        for images, target in train_queue:
            model.zero_grad()
            logits = model(images)
            loss = smoothed(logits, target)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            if oracle:
                oracle.forward("train", images, logits, target)

            batches.resize(ALPHA_BATCH, True)
            images, target = batches.next()
            sizes.append(len(target))
            model.zero_grad()
            logits = model(images)
            loss = criterion(logits, target)
            loss.backward()
            alpha_optimizer.step()
            losses.append(loss.item())
            if oracle:
                oracle.forward("valid", images, logits, target)
        if oracle:
            oracle.end_epoch()
        batches.resize(TEST_BATCH, False)
        with torch.no_grad():
            seen = [len(target) for _, target in valid_queue]
        assert len(seen) == len(valid_queue)
        assert seen[:-1] == [TEST_BATCH] * (len(seen) - 1)
        sizes.append(sum(seen))
    if oracle:
        assert given[1].batch_sampler.batch_size == 16  # the given loaders stay as they are
        oracle.finish(train_queue)
    return losses, sizes


assert search(0.0) == search(None)
losses, sizes = search(0.3)
assert sizes.count(ALPHA_BATCH) == len(sizes) - EPOCHS
