"""quark0/darts, first order: next(iter(valid_queue)) each step, an evaluation of the validation
queue after each epoch (with gradients on, as on a PyTorch that has forgotten `volatile`)."""

import torch
from common import BATCH, Network, Oracle, members, queues
from torch.autograd import Variable

import bdp_ext

EPOCHS = 7
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4, 6), 2)

lengths = []
for _ in range(EPOCHS):
    lengths.append(len(train_queue))
    steps = 0
    for input, target in train_queue:
        model.train()
        steps += 1
        input, target = Variable(input, requires_grad=False), Variable(target, requires_grad=False)
        input_search, target_search = next(iter(valid_queue))
        target_search = Variable(target_search, requires_grad=False)

        alpha_optimizer.zero_grad()
        logits = model(input_search)
        model._criterion(logits, target_search).backward()
        oracle.forward("valid", input_search, logits, target_search)
        alpha_optimizer.step()

        optimizer.zero_grad()
        logits = model(input)
        loss = criterion(logits, target)
        loss.backward()
        oracle.forward("train", input, logits, target)
        optimizer.step()
    assert steps == lengths[-1]
    oracle.end_epoch()
    model.eval()
    for input, target in valid_queue:
        criterion(model(input), target).item()
oracle.finish(train_queue)
assert lengths[0] == 80 // BATCH
assert lengths[-1] == 2  # 80 -> 56 -> 40 -> 28 samples
