"""`bdp_ext.prune` in a loop that copies its batches to a GPU."""

import pytest
import torch
from common import Network, begin, queues
from torch import nn
from torch.nn.functional import cross_entropy

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
    search, train_queue, valid_queue = begin(
        5, model, criterion, queues(pin_memory=pin), hooked=given
    )
    loss = criterion if hooked == "criterion" else cross_entropy
    for _ in range(5):
        for batches in zip(train_queue, valid_queue, strict=False):
            for level, (images, target) in zip(("train", "valid"), batches, strict=True):
                logits = model(images.cuda(non_blocking=pin))
                loss(logits, target.cuda(non_blocking=pin)).backward()
                search.forward(level, images, logits.cpu(), target)
        search.end_epoch()
    assert train_queue.pruner.unmatched == 0
    search.finish(train_queue)
