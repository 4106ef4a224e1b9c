"""Both levels drawn by `next(iter(...))` every step; an epoch is as many steps as the training
queue has batches, which the loop reads anew."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 7
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4, 6), 2)

input, target = next(iter(train_queue))  # a look at the data
for _ in range(EPOCHS):
    for _ in range(len(train_queue)):
        input, target = next(iter(train_queue))
        input_search, target_search = next(iter(valid_queue))
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
    oracle.end_epoch()
oracle.finish(train_queue)
