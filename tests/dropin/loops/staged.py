"""P-DARTS: a new model, optimiser and criterion for each stage, alpha steps only in a stage's later
epochs, and a validation iterator kept in a variable of one epoch."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

STAGES, ALPHA_FROM = (4, 5, 4), 2
torch.manual_seed(0)
train_queue, valid_queue = queues()
oracle = None
for stage, epochs in enumerate(STAGES):
    criterion = torch.nn.CrossEntropyLoss()
    model = Network(criterion, channels=4 + stage)
    optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
    alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
    train_queue, valid_queue = bdp_ext.prune(
        train_queue, valid_queue, criterion, epochs=STAGES, interval=2, balance="none"
    )
    if oracle is None:
        oracle = Oracle(train_queue.pruner, members(), (2, 4, 6, 8, 11), 2)
    else:
        oracle.new_stage()
    for epoch in range(epochs):
        steps = len(train_queue)
        for step, (input, target) in enumerate(train_queue):
            if epoch >= ALPHA_FROM:
                try:
                    input_search, target_search = next(valid_iter)
                except (NameError, StopIteration):
                    valid_iter = iter(valid_queue)
                    input_search, target_search = next(valid_iter)
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
            if step == steps - 1:
                oracle.compare(closed=False)  # a stage's last scores go with its model
        oracle.end_epoch(compare=epoch < epochs - 1)
oracle.finish(train_queue)
epochs = {level: [] for level in members()}
for row in train_queue.pruner.report():
    epochs[row["level"]].append(row["epoch"])
assert epochs == {"train": [2, 4, 6, 8, 11], "valid": [4, 8]}
