"""A loop that no hook fits: its data set gives the samples' numbers, the logits are mixed up by the
loop, and it scores them itself."""

import torch
from common import BATCH, IMAGES, Images, Network, Oracle, members

import bdp_ext

EPOCHS = 5


class Numbered(Images):
    def __getitem__(self, index):
        return (*super().__getitem__(index), index)


torch.manual_seed(0)
model = Network()
optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
data, half = Numbered(), IMAGES // 2
train_queue, valid_queue = (
    torch.utils.data.DataLoader(
        data, batch_size=BATCH, sampler=torch.utils.data.SubsetRandomSampler(part)
    )
    for part in (range(half), range(half, IMAGES))
)
train_queue, valid_queue = bdp_ext.prune(
    train_queue, valid_queue, epochs=EPOCHS, interval=2, balance="none"
)
oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
for _ in range(EPOCHS):
    for (input, target, index), (input_search, target_search, index_search) in zip(
        train_queue, valid_queue, strict=False
    ):
        optimizer.zero_grad()
        logits = model(torch.cat([input, input_search]))
        mine, other = logits.split([len(input), len(input_search)])
        bdp_ext.observe("train", index, mine, target)
        bdp_ext.observe("valid", index_search, other, target_search)
        (torch.nn.functional.cross_entropy(mine, target) - other.mean()).backward()
        oracle.forward("train", input, mine, target)
        oracle.forward("valid", input_search, other, target_search)
        optimizer.step()
    train_queue.pruner.end_epoch()
    oracle.end_epoch()
oracle.finish(train_queue)
