"""The ring of errors: one score a sample and epoch, VoE kept current."""

import pytest
import torch

from bdp_ext import ops
from bdp_ext.pruning import ErrorWindow

NAN = float("nan")


def batch(*index: int, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(len(index), 4, generator=generator)
    return torch.tensor(index), logits, torch.zeros(len(index), dtype=torch.int64)


def test_first_batch_of_an_epoch_counts():
    window = ErrorWindow(3, 5)
    index, logits, target = batch(0, 2, 4)
    window.record(index, logits, target)
    window.record(*batch(2, 3, seed=1))  # sample 2 again, with other logits
    assert torch.equal(window.scores[0, index], ops.el2n(logits, target))
    assert not window.scores[0, 3].isnan()
    assert window.scores[0, 1].isnan()


def test_voe_follows_the_last_k_epochs_also_of_samples_not_seen():
    window, history = ErrorWindow(3, 4), []
    for epoch in range(8):
        index = torch.tensor([0, 1, 2] if epoch % 2 else [0, 3])
        row = torch.full((4,), NAN)
        _, logits, target = batch(*index.tolist(), seed=epoch)
        row[index] = ops.el2n(logits, target)
        window.record(index, logits, target)
        window.refresh_unseen()
        history = [*history, row][-3:]
        last = torch.stack(history).double()
        for sample in range(4):
            known = last[:, sample][~last[:, sample].isnan()]
            if known.numel() < 2:
                assert window.voe[sample].isnan()
            else:
                expected = known.var(correction=0).float().item()
                assert window.voe[sample].item() == pytest.approx(expected, rel=1e-5, abs=1e-12)
        window.advance()
