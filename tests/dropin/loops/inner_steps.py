"""iDARTS: an epoch is a pass over the validation queue, each batch of which takes several batches
of the training queue by `next(iter(train_queue))`, and one more for a Hessian-vector product."""

from copy import deepcopy

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS, INNER = 5, 3
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none", unit="manual"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
for _ in range(EPOCHS):
    for images_search, target_search in valid_queue:
        for _ in range(INNER):
            images, target = next(iter(train_queue))
            optimizer.zero_grad()
            logits = model(images)
            criterion(logits, target).backward()
            oracle.forward("train", images, logits, target)
            optimizer.step()
        last = deepcopy(model)
        loss = criterion(last(images), target)
        torch.autograd.grad(loss, last.weights(), create_graph=True)[0].norm().backward()

        unrolled = deepcopy(model)
        logits = unrolled(images_search)
        criterion(logits, target_search).backward()
        oracle.forward("valid", images_search, logits, target_search)
        images, target = next(iter(train_queue))
        for sign in (1, -1):
            with torch.no_grad():
                for weight in model.weights():
                    weight += sign * 1e-3
            logits = model(images)
            if sign == 1:
                oracle.forward("train", images, logits, target)
            torch.autograd.grad(criterion(logits, target), [model.alphas])
        model.alphas.grad = unrolled.alphas.grad
        alpha_optimizer.step()
    train_queue.pruner.end_epoch()
    oracle.end_epoch()
oracle.finish(train_queue)
