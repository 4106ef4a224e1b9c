"""What each level of a search has record, in its folder, also after a resume."""

import os
import signal

import numpy as np
import pytest
import torch
from jobs import CONFIG, Silent

from bdp_ext.data import load, read_some
from bdp_ext.errors import UserError
from bdp_ext.pruning import LEVELS
from bdp_ext.runs.folder import Interrupted
from bdp_ext.search import pruning_history
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.run import run

TWICE = SearchConfig(**{**vars(CONFIG), "epochs": 5})  # prunes after epochs 2 and 4


def test_file_tells_which_images_were_pruned_and_why(tmp_path):
    result = run(TWICE, tmp_path, resume=False, observer=Silent())
    found = pruning_history.read(tmp_path / "pruned.npz", LEVELS)
    data = load(TWICE.data, limit=TWICE.limit_train, seed=TWICE.seed)
    everything = np.concatenate([record.samples for record in found.values()])
    assert len(np.unique(everything)) == len(everything)  # the two levels have no sample in common
    for name, record in found.items():
        rows = [row for row in result["prunings"] if row["level"] == name]
        assert record.epochs.tolist() == [row["epoch"] for row in rows] == [2, 4]
        assert record.taken.tolist() == [row["taken"] for row in rows]
        assert record.histograms.sum(1).tolist() == [row["before"] for row in rows]
        assert torch.equal(data.labels[record.samples], torch.from_numpy(record.labels).long())
        for pruning in (0, 1, -1):
            voe = record.voe[record.at(pruning)]
            assert len(voe) == record.taken[pruning]
            assert (np.diff(voe if name == "train" else -voe) >= 0).all()
        images, labels, classes = read_some(
            TWICE.data, torch.from_numpy(record.samples[:5]).long(), limit=TWICE.limit_train
        )
        assert torch.equal(images, data.images[record.samples[:5]])
        assert (labels.tolist(), classes) == (record.labels[:5].tolist(), data.classes)


def test_stopped_and_resumed_gives_the_same_file(tmp_path):
    run(TWICE, tmp_path / "whole", resume=False, observer=Silent())
    whole = (tmp_path / "whole/pruned.npz").read_bytes()
    stopped = tmp_path / "stopped"
    for step in (5, 7):  # in the middle of the third and of the fourth epoch
        stop = Silent({step: lambda: os.kill(os.getpid(), signal.SIGTERM)})
        with pytest.raises(Interrupted):
            run(TWICE, stopped, resume=step > 5, observer=stop)
        assert pruning_history.read(stopped / "pruned.npz", LEVELS)["train"].epochs.tolist() == [2]
    (stopped / "pruned.npz").unlink()  # killed before it was written
    run(TWICE, stopped, resume=True, observer=Silent())
    assert (stopped / "pruned.npz").read_bytes() == whole


def test_no_bdp_no_file(tmp_path):
    run(SearchConfig(**{**vars(CONFIG), "bdp": False}), tmp_path, resume=False, observer=Silent())
    assert not (tmp_path / "pruned.npz").exists()


def test_damaged_and_foreign_files_are_refused(tmp_path):
    file = tmp_path / "pruned.npz"
    with pytest.raises(UserError, match="No such file"):
        pruning_history.read(file, LEVELS)
    file.write_bytes(b"PK\3\4 half a file")
    with pytest.raises(UserError, match="damaged or no record of prunings"):
        pruning_history.read(file, LEVELS)
    np.savez(file, train_epochs=np.zeros(2))
    with pytest.raises(UserError, match="damaged or no record of prunings"):
        pruning_history.read(file, LEVELS)
    np.savez(file, **{f"{n}_{f}": np.ones(2) for n in LEVELS for f in pruning_history.FIELDS})
    with pytest.raises(UserError, match="of this version"):
        pruning_history.read(file, LEVELS)


def test_reading_some_images_downloads_nothing(tmp_path):
    with pytest.raises(UserError, match="is not there"):
        read_some("cifar10", torch.tensor([0]), root=tmp_path)
    with pytest.raises(UserError, match=r"has 200 images, and no number 200"):
        read_some("digits", torch.tensor([200]), limit=200)
