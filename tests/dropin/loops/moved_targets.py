"""Batches copied on their way, as `.cuda()` does on a GPU: known again by their labels. A batch is
passed twice, and the backward pass of the first comes last. A second criterion smooths labels.
Double precision."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 5
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
smooth = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
model = Network(criterion).double()
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, (criterion, smooth), epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
for _ in range(EPOCHS):
    for input, target in train_queue:
        input_search, target_search = next(iter(valid_queue))
        input, target = input.double(), target.clone()
        input_search, target_search = input_search.double(), target_search.clone()
        optimizer.zero_grad()
        alpha_optimizer.zero_grad()
        logits = model(input)
        first = smooth(logits, target.view(-1))
        oracle.forward("train", input, logits, target)
        logits = model(input_search)
        criterion(logits, target=target_search).backward()
        oracle.forward("valid", input_search, logits, target_search)
        again = criterion(model(input), target)
        again.backward()
        first.backward()  # the first pass, though its backward pass came last
        alpha_optimizer.step()
        optimizer.step()
    oracle.end_epoch()
oracle.finish(train_queue)
