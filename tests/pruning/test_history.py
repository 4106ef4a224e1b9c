"""What a level has lost, sample by sample, and the histograms of VoE."""

import numpy as np
import pytest
import torch

from bdp_ext.pruning import PruningHistory, Schedule, VoePruner
from bdp_ext.pruning.history import BINS, edges, histogram


def test_histogram_counts_every_voe_in_its_bin():
    inside = torch.logspace(-7.9, -0.31, 500, dtype=torch.float64).float()
    expected = np.histogram(inside.numpy(), edges().numpy())[0]
    assert histogram(inside).tolist() == expected.tolist()
    outside = torch.tensor([0.0, 1e-30, 1e-9, 0.5, 1.0])
    counts = histogram(outside)
    assert (int(counts[0]), int(counts[-1]), int(counts.sum())) == (3, 1, 5)
    assert histogram(torch.empty(0)).tolist() == [0] * BINS


def test_order_is_by_epoch_then_by_what_the_criterion_takes_first():
    history = PruningHistory(6)
    all_six = torch.arange(6)
    history.take(4, all_six, torch.tensor([0.1, 0.3, 0.2, 0.5, 0.4, 0.3]), all_six < 3)
    left = torch.arange(3, 6)
    history.take(2, left, torch.tensor([0.5, 0.3, 0.3]), torch.tensor([1, 1, 1]).bool())
    assert history.live.numel() == 0
    assert history.in_order("lowest").tolist() == [4, 5, 3, 0, 2, 1]
    assert history.in_order("highest").tolist() == [3, 4, 5, 1, 2, 0]
    assert history.in_order("random").tolist() == [3, 4, 5, 0, 1, 2]


def test_restored_samples_are_live():
    history = PruningHistory(4)
    all_four = torch.arange(4)
    history.take(2, all_four, torch.tensor([0.1, 0.2, 0.3, 0.4]), all_four < 2)
    history.restore()
    history.take(4, all_four, torch.tensor([0.4, 0.3, 0.2, 0.1]), all_four == 3)
    assert history.live.tolist() == [0, 1, 2]
    assert history.epoch.tolist() == [0, 0, 0, 4]
    assert history.voe.isnan().tolist() == [True, True, True, False]


@pytest.mark.parametrize("criterion", ["lowest", "highest", "random"])
def test_pruner_notes_what_it_prunes(criterion):
    labels = torch.arange(100) % 5
    pruner = VoePruner(labels, Schedule(6, 2, ratio=0.2), criterion=criterion)
    live = [pruner.live]
    for epoch in range(6):
        logits = torch.randn(pruner.live.numel(), 5, generator=torch.Generator().manual_seed(epoch))
        pruner.observe(pruner.live, logits, labels[pruner.live])
        voe = pruner.window.voe.clone()
        if pruner.end_epoch():
            gone = live[-1][~torch.isin(live[-1], pruner.live)]
            assert (pruner.history.epoch[gone] == epoch + 1).all()
            assert torch.equal(pruner.history.voe[gone], voe[gone])
            assert torch.equal(pruner.history.histograms[-1], histogram(voe[live[-1]]))
            live.append(pruner.live)
    assert len(live) == 3
    assert pruner.history.voe[pruner.live].isnan().all()
