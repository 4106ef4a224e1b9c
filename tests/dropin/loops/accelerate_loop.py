"""Accelerate, in one process and in two (gloo): prepared loaders are pruned inside."""

import os

import torch
from accelerate import Accelerator
from common import BATCH, IMAGES, Network, Oracle, run_ranks, subset_queues

from bdp_ext.integrations.accelerate import prune

EPOCHS = 5


def main():
    accelerator = Accelerator(cpu=True)
    ranks = accelerator.num_processes
    torch.manual_seed(0)
    criterion = torch.nn.CrossEntropyLoss()
    model, half = Network(), IMAGES // 2
    train, valid = subset_queues(batch=BATCH // ranks)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    model, optimizer, train, valid = accelerator.prepare(model, optimizer, train, valid)
    train, valid = prune(train, valid, criterion, epochs=EPOCHS, interval=2, balance="none")
    oracle = None
    if ranks == 1:
        members = {"train": range(half), "valid": range(half)}
        oracle = Oracle(train.pruner, members=members, first={"valid": half})
    sizes = []
    for _ in range(EPOCHS):
        drawn = 0
        for (images, target), (search, labels) in zip(train, valid, strict=True):
            drawn += len(target)
            for level, x, y in (("valid", search, labels), ("train", images, target)):
                optimizer.zero_grad()
                logits = model(x)
                accelerator.backward(criterion(logits, y))
                optimizer.step()
                if oracle:
                    oracle.forward(level, x, logits, y)
        sizes.append(drawn)
        if oracle:
            oracle.end_epoch()
    assert train.pruner.epoch == EPOCHS or ranks > 1
    live = torch.cat(list(train.pruner.live_indices.values()))
    assert sizes[0] == half // ranks
    assert sizes[-1] < sizes[0]
    everyone = accelerator.gather(live[None])
    assert (everyone == everyone[0]).all()
    print("scored", accelerator.process_index, sizes, flush=True)
    accelerator.end_training()
    if ranks > 1:
        os._exit(0)  # as in two_ranks.py: gloo's thread may abort in an interpreter that is gone


if __name__ == "__main__":
    main()
    if "RANK" not in os.environ:
        run_ranks(__file__)
