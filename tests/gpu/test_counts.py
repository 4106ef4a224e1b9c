"""What a step launches, reads and writes, and waits for on a GPU: no more than today.

An upper bound is today's exact count, at batch 2 on images of 16x16; whoever improves on it lowers
the number here. Launches and waits are the same at any batch size; `make gpu-counts` prints all for
a batch of 64.
"""

import pytest
import torch
from fake_gpu import fake_gpu
from gpu_counts import SPACES, Counts, images, our_step, second
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bdp_ext
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.loop import Retrain
from bdp_ext.spaces.published import PUBLISHED

MOST = {  # kernels, bytes, waits, blocking copies
    ("NAS-Bench-201, N=5", "bfloat16"): Counts(3620, 209_249_568, 12, 12),
    ("NAS-Bench-201, N=5", "float32"): Counts(3047, 262_521_352, 12, 12),
    ("DARTS, 8 cells", "bfloat16"): Counts(18_673, 431_410_420, 12, 12),
    ("DARTS, 8 cells", "float32"): Counts(15_996, 719_150_108, 12, 12),
    ("PC-DARTS, 8 cells", "bfloat16"): Counts(20_124, 125_539_444, 12, 12),
    ("PC-DARTS, 8 cells", "float32"): Counts(17_447, 231_226_460, 12, 12),
}
RETRAINING = Counts(390, 80_653_540, 6, 6)
DROP_IN = Counts(22, 2400, 0, 0)


def within(counts: Counts, most: Counts) -> None:
    assert all(now <= then for now, then in zip(counts, most, strict=True)), (counts, most)


@pytest.mark.parametrize(("name", "precision"), MOST)
def test_a_search_step(name, precision):
    amp = None if precision == "bfloat16" else False  # None: as by default
    with fake_gpu() as log:
        counts = second(log, our_step(*SPACES[name], batch=2, size=16, amp=amp))
        within(counts, MOST[name, precision])
        callers = {launch.caller for launch in log.launches}
        assert "outside of bdp_ext" not in callers


def test_a_retraining_step():
    """The paper's network, a cell of it each: DARTS_V2 with auxiliary head and drop path."""
    config = RetrainConfig.of(
        space="darts",
        genotype=str(PUBLISHED["DARTS_V2"]),
        data="cifar10",
        channels=16,
        cells=3,
        batch_size=2,
        device="cuda",
    )
    with fake_gpu() as log:
        data = images(2, 32)
        within(second(log, Retrain(config, data, data).step), RETRAINING)


def test_a_drop_in_step():
    """The two levels of a loop that copies its batches to the device."""
    data = TensorDataset(torch.randn(64, 5), torch.arange(64) % 3)
    data.targets = data.tensors[1]
    with fake_gpu() as log:
        criterion, model = nn.CrossEntropyLoss(), nn.Linear(5, 3).cuda()
        train, valid = (DataLoader(data, 4) for _ in range(2))
        train, valid = bdp_ext.prune(train, valid, criterion, epochs=10)
        batches = zip(train, valid, strict=True)

        def step():
            for images, target in next(batches):
                images = images.to("cuda", non_blocking=True)
                target = target.to("cuda", non_blocking=True)
                criterion(model(images), target).backward()

        within(second(log, step), DROP_IN)
