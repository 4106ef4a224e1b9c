"""What a level has lost, sample by sample: in the pruner, in a run's folder, after a resume."""

import os
import signal

import numpy as np
import pytest
import torch
from jobs import CONFIG, Silent

from bdp_ext.data import load, read_some
from bdp_ext.errors import UserError
from bdp_ext.pruning import LevelPruner, Pruned, Schedule
from bdp_ext.pruning.pruned import BINS, edges, histogram
from bdp_ext.runs.folder import Interrupted
from bdp_ext.search import pruned_file
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import LEVELS
from bdp_ext.search.run import run

TWICE = SearchConfig(**{**vars(CONFIG), "epochs": 5})  # prunes after epochs 2 and 4


def test_histogram_counts_every_voe_in_its_bin():
    inside = torch.logspace(-7.9, -0.31, 500, dtype=torch.float64).float()
    expected = np.histogram(inside.numpy(), edges().numpy())[0]
    assert histogram(inside).tolist() == expected.tolist()
    outside = torch.tensor([0.0, 1e-30, 1e-9, 0.5, 1.0])
    counts = histogram(outside)
    assert (int(counts[0]), int(counts[-1]), int(counts.sum())) == (3, 1, 5)
    assert histogram(torch.empty(0)).tolist() == [0] * BINS


def test_order_is_by_epoch_then_by_what_the_criterion_takes_first():
    pruned = Pruned(6)
    all_six = torch.arange(6)
    pruned.take(4, all_six, torch.tensor([0.1, 0.3, 0.2, 0.5, 0.4, 0.3]), all_six < 3)
    left = torch.arange(3, 6)
    pruned.take(2, left, torch.tensor([0.5, 0.3, 0.3]), torch.tensor([1, 1, 1]).bool())
    assert pruned.live.numel() == 0
    assert pruned.in_order("lowest").tolist() == [4, 5, 3, 0, 2, 1]
    assert pruned.in_order("highest").tolist() == [3, 4, 5, 1, 2, 0]
    assert pruned.in_order("random").tolist() == [3, 4, 5, 0, 1, 2]


def test_restored_samples_are_live():
    pruned = Pruned(4)
    all_four = torch.arange(4)
    pruned.take(2, all_four, torch.tensor([0.1, 0.2, 0.3, 0.4]), all_four < 2)
    pruned.restore()
    pruned.take(4, all_four, torch.tensor([0.4, 0.3, 0.2, 0.1]), all_four == 3)
    assert pruned.live.tolist() == [0, 1, 2]
    assert pruned.epoch.tolist() == [0, 0, 0, 4]
    assert pruned.voe.isnan().tolist() == [True, True, True, False]


@pytest.mark.parametrize("criterion", ["lowest", "highest", "random"])
def test_pruner_notes_what_it_prunes(criterion):
    labels = torch.arange(100) % 5
    pruner = LevelPruner(labels, Schedule(6, 2, ratio=0.2), criterion=criterion)
    live = [pruner.live]
    for epoch in range(6):
        logits = torch.randn(pruner.live.numel(), 5, generator=torch.Generator().manual_seed(epoch))
        pruner.observe(pruner.live, logits, labels[pruner.live])
        voe = pruner.window.voe.clone()
        if pruner.end_epoch():
            gone = live[-1][~torch.isin(live[-1], pruner.live)]
            assert (pruner.pruned.epoch[gone] == epoch + 1).all()
            assert torch.equal(pruner.pruned.voe[gone], voe[gone])
            assert torch.equal(pruner.pruned.histograms[-1], histogram(voe[live[-1]]))
            live.append(pruner.live)
    assert len(live) == 3
    assert pruner.pruned.voe[pruner.live].isnan().all()


def test_file_tells_which_images_were_pruned_and_why(tmp_path):
    result = run(TWICE, tmp_path, resume=False, observer=Silent())
    found = pruned_file.read(tmp_path / "pruned.npz", LEVELS)
    data = load(TWICE.data, limit=TWICE.limit_train, seed=TWICE.seed)
    everything = np.concatenate([lost.samples for lost in found.values()])
    assert len(np.unique(everything)) == len(everything)  # the two levels have no sample in common
    for name, lost in found.items():
        rows = [row for row in result["prunings"] if row["level"] == name]
        assert lost.epochs.tolist() == [row["epoch"] for row in rows] == [2, 4]
        assert lost.taken.tolist() == [row["taken"] for row in rows]
        assert lost.histograms.sum(1).tolist() == [row["before"] for row in rows]
        assert torch.equal(data.labels[lost.samples], torch.from_numpy(lost.labels).long())
        for pruning in (0, 1, -1):
            voe = lost.voe[lost.at(pruning)]
            assert len(voe) == lost.taken[pruning]
            assert (np.diff(voe if name == "train" else -voe) >= 0).all()
        images, labels, classes = read_some(
            TWICE.data, torch.from_numpy(lost.samples[:5]).long(), limit=TWICE.limit_train
        )
        assert torch.equal(images, data.images[lost.samples[:5]])
        assert (labels.tolist(), classes) == (lost.labels[:5].tolist(), data.classes)


def test_stopped_and_resumed_gives_the_same_file(tmp_path):
    run(TWICE, tmp_path / "whole", resume=False, observer=Silent())
    whole = (tmp_path / "whole/pruned.npz").read_bytes()
    stopped = tmp_path / "stopped"
    for step in (5, 7):  # in the middle of the third and of the fourth epoch
        stop = Silent({step: lambda: os.kill(os.getpid(), signal.SIGTERM)})
        with pytest.raises(Interrupted):
            run(TWICE, stopped, resume=step > 5, observer=stop)
        assert pruned_file.read(stopped / "pruned.npz", LEVELS)["train"].epochs.tolist() == [2]
    (stopped / "pruned.npz").unlink()  # killed before it was written
    run(TWICE, stopped, resume=True, observer=Silent())
    assert (stopped / "pruned.npz").read_bytes() == whole


def test_no_bdp_no_file(tmp_path):
    run(SearchConfig(**{**vars(CONFIG), "bdp": False}), tmp_path, resume=False, observer=Silent())
    assert not (tmp_path / "pruned.npz").exists()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    file = tmp_path / "pruned.npz"
    with pytest.raises(UserError, match="No such file"):
        pruned_file.read(file, LEVELS)
    file.write_bytes(b"PK\3\4 half a file")
    with pytest.raises(UserError, match="damaged or no record of prunings"):
        pruned_file.read(file, LEVELS)
    np.savez(file, train_epochs=np.zeros(2))
    with pytest.raises(UserError, match="damaged or no record of prunings"):
        pruned_file.read(file, LEVELS)
    np.savez(file, **{f"{n}_{f}": np.ones(2) for n in LEVELS for f in pruned_file.FIELDS})
    with pytest.raises(UserError, match="of this version"):
        pruned_file.read(file, LEVELS)


def test_reading_some_images_downloads_nothing(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        read_some("cifar10", torch.tensor([0]), root=tmp_path)
    with pytest.raises(UserError, match=r"has 200 images, and no number 200"):
        read_some("digits", torch.tensor([200]), limit=200)
