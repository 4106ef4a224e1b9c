"""Two processes (gloo), each with its own half of every pass: both prune the same samples, and draw
as many batches."""

import os

import torch
import torch.distributed as dist
from common import Network, run_ranks, subset_queues
from torch.utils.data import DataLoader, DistributedSampler

import bdp_ext

EPOCHS, RANKS = 5, 2


def main(rank):
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    criterion = torch.nn.CrossEntropyLoss()
    model = Network(criterion)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sets = [queue.dataset for queue in subset_queues()]
    samplers = [DistributedSampler(part, RANKS, rank, seed=1) for part in sets]
    train_queue, valid_queue = (
        DataLoader(part, batch_size=8, sampler=sampler)
        for part, sampler in zip(sets, samplers, strict=True)
    )
    train_queue, valid_queue = bdp_ext.prune(
        train_queue, valid_queue, criterion, epochs=EPOCHS, interval=2, balance="none"
    )
    sizes = []
    for epoch in range(EPOCHS):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        drawn = 0
        for batch, search in zip(train_queue, valid_queue, strict=True):
            for input, target in (search, batch):
                optimizer.zero_grad()
                criterion(model(input), target).backward()
                for parameter in model.parameters():
                    dist.all_reduce(parameter.grad)
                optimizer.step()
            drawn += len(batch[1])
        sizes.append(drawn)
        window = train_queue.pruner.levels["train"].pruner.window
        live = train_queue.pruner.live_indices
        row = window.scores[(window.slot - 1) % 2]
        assert not row[live["train"]].isnan().any()  # also those that the other rank saw
        both = torch.stack([live["train"].sum(), live["valid"].sum(), torch.tensor(drawn)])
        gathered = [torch.zeros_like(both) for _ in range(RANKS)]
        dist.all_gather(gathered, both)
        assert torch.equal(*gathered), gathered
    assert sizes == [40, 40, 28, 28, 20], sizes
    dist.destroy_process_group()
    print("scored", rank, sizes, flush=True)
    os._exit(0)  # gloo's thread may still drop a tensor, and aborts in an interpreter that is gone


if __name__ == "__main__":
    if "RANK" in os.environ:
        main(int(os.environ["RANK"]))
    else:
        run_ranks(__file__, RANKS)
