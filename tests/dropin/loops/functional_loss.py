"""The loss is a function (`F.cross_entropy`), so the model is hooked; it returns (features,
logits), an unrolled copy of it scores the validation level, and one loss smooths labels."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from common import Network, Oracle, members, queues

import bdp_ext

EPOCHS = 5


class Tuples(Network):
    def forward(self, images):
        return images.mean((2, 3)), super().forward(images.float())


torch.manual_seed(0)
model = Tuples()
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
train_queue, valid_queue = queues()
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, model=model, logits=1, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
for epoch in range(EPOCHS):
    for (input, target), (input_search, target_search) in zip(
        train_queue, valid_queue, strict=False
    ):
        if epoch % 2:  # as a copy to a device makes them: another tensor
            input, input_search = input.clone(), input_search.clone()
        if epoch == 3:  # and in less precision
            input, input_search = input.bfloat16(), input_search.bfloat16()
        unrolled = deepcopy(model)
        _, logits = unrolled(input_search)
        F.cross_entropy(logits, target_search, label_smoothing=0.1).backward()
        oracle.forward("valid", input_search, logits, target_search)
        model.alphas.grad = unrolled.alphas.grad
        alpha_optimizer.step()
        optimizer.zero_grad()
        _, logits = model(input)
        F.cross_entropy(logits, target).backward()
        oracle.forward("train", input, logits, target)
        optimizer.step()
        with torch.no_grad():
            model(input)
    oracle.end_epoch()
oracle.finish(train_queue)
