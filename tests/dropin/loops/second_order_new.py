"""quark0/darts, second order: an unrolled model made by `new()`, and a Hessian-vector product from
two more passes of the training batch with perturbed weights."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS, LR = 5, 0.05
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.parameters(), LR, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def unrolled_model(images, target):
    logits = model(images)
    loss = model._criterion(logits, target)
    gradients = torch.autograd.grad(loss, model.weights())
    oracle.forward("train", images, logits, target)  # the first pass of this batch
    fresh = model.new()
    fresh.load_state_dict(model.state_dict())
    with torch.no_grad():
        for new, gradient in zip(fresh.weights(), gradients, strict=True):
            new.sub_(gradient, alpha=LR)
    return fresh


def hessian_vector_product(vector, images, target, r=1e-2):
    step = r / flat(vector).norm()
    gradients = []
    for move in (step, -2 * step):
        for weight, direction in zip(model.weights(), vector, strict=True):
            weight.data.add_(direction, alpha=float(move))
        loss = model._loss(images, target)
        gradients.append(torch.autograd.grad(loss, model.alphas)[0])
    for weight, direction in zip(model.weights(), vector, strict=True):
        weight.data.add_(direction, alpha=float(step))
    return (gradients[0] - gradients[1]) / (2 * step)


for _ in range(EPOCHS):
    for input, target in train_queue:
        input_search, target_search = next(iter(valid_queue))
        unrolled = unrolled_model(input, target)
        logits = unrolled(input_search)
        unrolled._criterion(logits, target_search).backward()
        oracle.forward("valid", input_search, logits, target_search)
        vector = [weight.grad.data for weight in unrolled.weights()]
        implicit = hessian_vector_product(vector, input, target)
        model.alphas.grad = unrolled.alphas.grad - LR * implicit
        alpha_optimizer.step()

        optimizer.zero_grad()
        logits = model(input)  # a later pass of this batch: no score
        criterion(logits, target).backward()
        optimizer.step()
    oracle.end_epoch()
oracle.finish(train_queue)
