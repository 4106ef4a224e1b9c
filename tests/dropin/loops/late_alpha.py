"""PC-DARTS: a validation batch is drawn each step and not used before a late epoch."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS, ALPHA_FROM = 9, 3
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4, 6, 8), 2)

for epoch in range(EPOCHS):
    for input, target in train_queue:
        input_search, target_search = next(iter(valid_queue))
        if epoch >= ALPHA_FROM:
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
valid = [row for row in train_queue.pruner.report() if row["level"] == "valid"]
assert [row["epoch"] for row in valid] == [6, 8]  # none without two scores
assert all(row["taken"] > 0 for row in valid)
