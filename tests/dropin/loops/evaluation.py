"""Evaluations of both queues, under `no_grad` and without, before, between and within epochs; the
validation queue is then drawn by an iterator that lives across epochs."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 5
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.parameters(), 0.1)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)


def infer(queue):
    seen = 0
    with torch.no_grad():
        for input, target in queue:
            criterion(model(input), target)
            seen += len(input)
    return seen


def endless(queue):
    while True:
        yield from queue


infer(train_queue)
infer(valid_queue)
valid_batches = endless(valid_queue)
for _ in range(EPOCHS):
    for step, (input, target) in enumerate(train_queue):
        input_search, target_search = next(valid_batches)
        if step == 1:
            infer(valid_queue)
            infer(train_queue)  # no epoch
        for level, images, labels in (
            ("valid", input_search, target_search),
            ("train", input, target),
        ):
            if step == 1:
                labels = labels.clone()
            optimizer.zero_grad()
            logits = model(images)
            criterion(logits, labels).backward()
            oracle.forward(level, images, logits, labels)
            optimizer.step()
    oracle.end_epoch()
    assert infer(valid_queue) == len(train_queue.pruner.live_indices["valid"])
    assert infer(valid_queue.unpruned) == 80
    for input, target in train_queue:  # no backward: no epoch
        criterion(model(input), target)
oracle.finish(train_queue)
