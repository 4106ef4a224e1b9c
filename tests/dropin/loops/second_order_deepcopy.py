"""Second order with a deep copy of the model, its criterion and hooks included; the weight step
comes first, as in AutoDL-Projects."""

from copy import deepcopy

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS, LR = 5, 0.05
torch.manual_seed(0)
model = Network(torch.nn.CrossEntropyLoss())
optimizer = torch.optim.SGD(model.weights(), LR, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, model._criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
model = deepcopy(model)  # and the hooked one is gone
optimizer = torch.optim.SGD(model.weights(), LR, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)

for _ in range(EPOCHS):
    for input, target in train_queue:
        input_search, target_search = next(iter(valid_queue))
        optimizer.zero_grad()
        logits = model(input)
        model._criterion(logits, target).backward()
        oracle.forward("train", input, logits, target)
        optimizer.step()

        loss = model._loss(input, target)
        gradients = torch.autograd.grad(loss, model.weights())
        unrolled = deepcopy(model)
        with torch.no_grad():
            for weight, gradient in zip(unrolled.weights(), gradients, strict=True):
                weight.sub_(gradient, alpha=LR)
        logits = unrolled(input_search)
        unrolled._criterion(logits, target_search).backward()
        oracle.forward("valid", input_search, logits, target_search)
        model.alphas.grad = unrolled.alphas.grad
        alpha_optimizer.step()
    oracle.end_epoch()
oracle.finish(train_queue)
