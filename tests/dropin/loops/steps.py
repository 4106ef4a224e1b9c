"""A loop that counts steps and knows no epochs: both queues drawn for ever, a pruning every ten
steps (unit="step")."""

import torch
from common import BATCH, Network, Oracle, members, queues

import bdp_ext

STEPS, EPOCH = 35, 80 // BATCH


def for_ever(queue):
    while True:
        yield from queue


torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=STEPS, interval=10, unit="step", balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4, 6), 2)
train_batches, valid_batches = for_ever(train_queue), for_ever(valid_queue)
for step in range(STEPS):
    input, target = next(train_batches)
    input_search, target_search = next(valid_batches)
    alpha_optimizer.zero_grad()
    logits = model(input_search)
    criterion(logits, target_search).backward()
    oracle.forward("valid", input_search, logits, target_search)
    alpha_optimizer.step()
    optimizer.zero_grad()
    logits = model(input)
    criterion(logits, target).backward()
    oracle.forward("train", input, logits, target)
    optimizer.step()
    if (step + 1) % EPOCH == 0:
        oracle.end_epoch()
oracle.finish(train_queue)
