"""SGAS: after a decision both loaders are built anew, over all samples and with a larger batch; the
old ones are deleted."""

import torch
from common import BATCH, Images, Network, Oracle, members, queues

import bdp_ext

EPOCHS, DECISIONS = 7, (1, 4)
torch.manual_seed(0)
data = Images()
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues(data)
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
pruner = train_queue.pruner
oracle = Oracle(pruner, members(), (2, 4, 6), 2)
batch = BATCH

for epoch in range(EPOCHS):
    for input, target in train_queue:
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
    if epoch in DECISIONS:
        del train_queue, valid_queue
        batch += 8
        train_queue, valid_queue = (
            torch.utils.data.DataLoader(
                data, batch, sampler=torch.utils.data.sampler.SubsetRandomSampler(part)
            )
            for part in members().values()
        )
        train_queue, valid_queue = pruner.adopt(train_queue, valid_queue)
        assert train_queue.pruner is valid_queue.pruner is pruner
    oracle.end_epoch()
    assert len(train_queue) == -(-len(oracle.live["train"]) // batch)
oracle.finish()
