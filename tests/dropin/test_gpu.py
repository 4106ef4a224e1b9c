"""`bdp_ext.prune` in a loop that copies its batches to a GPU."""

import pytest
import torch
from common import Network, Oracle, members, queues
from torch import nn
from torch.nn.functional import cross_entropy

import bdp_ext

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("hooked", ["criterion", "model"])
@pytest.mark.parametrize("pin", [False, True])
def test_scores(hooked, pin):
    torch.manual_seed(0)
    criterion, model = nn.CrossEntropyLoss(), Network().cuda()
    given = {"loss": criterion} if hooked == "criterion" else {"model": model}
    train_queue, valid_queue = bdp_ext.prune(
        *queues(pin_memory=pin), epochs=5, interval=2, balance="none", **given
    )
    oracle = Oracle(train_queue.pruner, members(), (2, 4), 2)
    loss = criterion if hooked == "criterion" else cross_entropy
    for _ in range(5):
        for batches in zip(train_queue, valid_queue, strict=False):
            for level, (images, target) in zip(("train", "valid"), batches, strict=True):
                logits = model(images.cuda(non_blocking=pin))
                loss(logits, target.cuda(non_blocking=pin)).backward()
                oracle.forward(level, images, logits.cpu(), target)
        oracle.end_epoch()
    assert train_queue.pruner.unmatched == 0
    oracle.finish(train_queue)
