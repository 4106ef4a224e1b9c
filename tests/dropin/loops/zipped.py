"""Both queues zipped, the validation set being smaller: an epoch is over when it is used up."""

import torch
from common import BATCH, IMAGES, Images, Network, Oracle

import bdp_ext

EPOCHS, TRAIN = 7, 100
torch.manual_seed(0)
criterion = torch.nn.CrossEntropyLoss()
model = Network(criterion)
optimizer = torch.optim.SGD(model.weights(), 0.1, momentum=0.9)
alpha_optimizer = torch.optim.Adam([model.alphas], 0.01)
data = Images()
train_set = torch.utils.data.Subset(data, range(TRAIN))
valid_set = torch.utils.data.Subset(data, range(TRAIN, IMAGES))
loader = torch.utils.data.DataLoader
train_queue = loader(train_set, batch_size=BATCH, shuffle=True, drop_last=True)
valid_queue = loader(valid_set, batch_size=BATCH, shuffle=True)
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none", prune_train=0.2
)


class Zipped(Oracle):
    """The validation subset numbers its samples from 0."""

    def forward(self, level, images, logits, target):
        if level == "valid":
            images = images.clone()
            images[:, 0, 0, 0] -= TRAIN / 1024
        super().forward(level, images, logits, target)

    def _prune(self, level):
        self.ratio = 0.2 if level == "train" else 0.3
        super()._prune(level)


members = {"train": range(TRAIN), "valid": range(IMAGES - TRAIN)}
oracle = Zipped(train_queue.pruner, members, (2, 4, 6), 2)
for _ in range(EPOCHS):
    batches, most = 0, len(valid_queue)
    for (input, target), (input_search, target_search) in zip(
        train_queue, valid_queue, strict=False
    ):
        batches += 1
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
    assert batches == most
    oracle.end_epoch()  # the training pass was left with a batch drawn and unused
oracle.finish(train_queue, batches=False)
