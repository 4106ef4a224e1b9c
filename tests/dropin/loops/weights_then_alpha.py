"""FBNet: a pass of the weights, then one of alpha, in every epoch but the first; the criterion
takes the latency (a matrix that a backward pass reaches too), meters and the batch size as well.
CDARTS: a criterion that is built anew in the function that trains an epoch."""

import torch
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 7


class Meter:
    def update(self, value, count):
        self.value = value / count


class Loss(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.CrossEntropyLoss()

    def forward(self, logits, target, latency, losses, latencies, count):
        loss, latency = self.inner(logits, target), latency**0.6
        losses.update(loss.item(), count)
        latencies.update(latency.item(), count)
        return 0.2 * loss * latency


def one_pass(queue, level, model, optimizer, oracle):
    criterion = Loss()
    oracle.pruner.watch(criterion)
    for images, target in queue:
        optimizer.zero_grad()
        latency = model.alphas.softmax(0)[:1].view(1, 1) + 1
        logits = model(images)
        criterion(logits, target, latency, Meter(), Meter(), len(target)).backward()
        oracle.forward(level, images, logits, target)
        optimizer.step()


torch.manual_seed(0)
model = Network()
optimizers = {
    "train": torch.optim.SGD(model.weights(), 0.1, momentum=0.9),
    "valid": torch.optim.Adam([model.alphas], 0.01),
}
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, Loss(), epochs=EPOCHS, interval=2, balance="none", unit="manual"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4, 6), 2)
for epoch in range(EPOCHS):
    one_pass(train_queue, "train", model, optimizers["train"], oracle)
    if epoch:
        one_pass(valid_queue, "valid", model, optimizers["valid"], oracle)
    train_queue.pruner.end_epoch()
    oracle.end_epoch()
oracle.finish(train_queue)
