"""Queues that the loop deep-copies (RobustDARTS, SmoothDARTS and NASP do so to take one batch for a
Hessian after each epoch): a copy belongs to the same search."""

import copy

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 7
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4, 6), 2)
early = copy.deepcopy(valid_queue)

for _ in range(EPOCHS):
    for (input, target), (input_search, target_search) in zip(train_queue, early, strict=False):
        model.zero_grad()
        logits = model(input_search)
        criterion(logits, target_search).backward()
        oracle.forward("valid", input_search, logits, target_search)
        logits = model(input)
        criterion(logits, target).backward()
        oracle.forward("train", input, logits, target)
        optimizer.step()
    oracle.end_epoch()
    copied = copy.deepcopy(train_queue)
    assert copied.pruner is train_queue.pruner
    assert copied.dataset is not train_queue.dataset
    assert len(copied) == len(train_queue)
    input, target = next(iter(copied))
    logits = model(input)  # the first pass of these samples in the epoch to come
    gradients = torch.autograd.grad(criterion(logits, target), [model.alphas], create_graph=True)
    torch.autograd.grad(gradients[0].sum(), [model.alphas])
    oracle.forward("train", input, logits, target)
assert train_queue.pruner.unmatched == 0
oracle.finish(train_queue)
