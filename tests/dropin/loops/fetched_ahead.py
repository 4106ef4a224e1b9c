"""A prefetcher asks for the next batch before the last one is trained, as data prefetchers for GPUs
do: the queue is used up one step early. `len()` is read in the last step, too."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 5


def ahead(queue):
    batches = iter(queue)
    batch = next(batches)
    while batch is not None:
        following = next(batches, None)
        yield batch
        batch = following


torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues(num_workers=1)
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
for epoch in range(EPOCHS):
    for (input, target), (input_search, target_search) in zip(
        ahead(train_queue), ahead(valid_queue), strict=False
    ):
        assert train_queue.pruner.epoch == epoch
        alpha_optimizer.zero_grad()
        logits = model(input_search)
        criterion(logits, target_search).backward()
        oracle.forward("valid", input_search, logits, target_search)
        alpha_optimizer.step()
        assert len(train_queue) > 0
        optimizer.zero_grad()
        logits = model(input)
        criterion(logits, target).backward()
        oracle.forward("train", input, logits, target)
        optimizer.step()
    oracle.end_epoch()
oracle.finish(train_queue)
