"""Every space with every method that works on it: searches with pruning, is killed and resumed,
and its cell is trained."""

from pathlib import Path

import pytest
import torch
from jobs import Silent

from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.run import retrain
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search
from bdp_ext.search.run import run
from bdp_ext.spaces import SPACES

REFUSED = {
    ("nas-bench-201", "p-darts"),
    ("mobilenet", "p-darts"),
    ("mobilenet", "pc-darts"),
}
CASES = [
    (space, method) for space in SPACES for method in METHODS if (space, method) not in REFUSED
]
CELLS = {"nas-bench-201": 1, "darts": 3, "mobilenet": 1}
SIZE = {"nas-bench-201": {}, "darts": {"auxiliary": 0.0}, "mobilenet": {}}


class Killed(Exception):
    """What is not saved now is lost; `test_run.py` kills processes."""


class Killer(Silent):
    """Ends a run in its second epoch."""

    def stepped(self, job):
        if job.epoch == 1:
            raise Killed


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def check(space: str, method: str, data: str, tmp_path: Path, **options) -> None:
    config = SearchConfig.of(
        space=space,
        method=method,
        data=data,
        epochs=3,
        interval=2,
        channels=8 if method == "pc-darts" else 4,
        cells=CELLS[space],
        batch_size=64,
        train_share=0.5,
        alpha_start=0,
        threads=1,
        **options,
    )
    whole = run(config, tmp_path / "whole", resume=False, observer=Silent())
    prunings = [(row["level"], row["epoch"], row["asked"]) for row in whole["prunings"]]
    stages = METHODS[method].stages
    expected = [2] if stages == 1 else [2, 5, 8]
    size = len(prunings) // 2
    assert [epoch for _, epoch, _ in prunings] == sorted(2 * expected)
    assert {level for level, _, _ in prunings} == {"train", "valid"}
    assert all(row["taken"] > 0 for row in whole["prunings"])
    assert size == len(expected)
    assert whole["cost_saved"] > 0

    with pytest.raises(Killed):
        run(config, tmp_path / "killed", resume=False, observer=Killer())
    resumed = run(config, tmp_path / "killed", resume=True, observer=Silent())
    for key in ("architecture", "alpha", "samples", "prunings", "history"):
        assert resumed[key] == whole[key], key

    trained = retrain(
        RetrainConfig.of(
            space=space,
            genotype=whole["architecture"],
            data=data,
            epochs=2,
            channels=8,
            cells=CELLS[space],
            batch_size=64,
            threads=1,
            **SIZE[space],
            **options,
        ),
        tmp_path / "trained",
        resume=False,
        observer=Silent(),
    )
    assert 0 <= trained["top1"] <= trained["top5"] <= 1
    assert (tmp_path / "trained" / "weights.safetensors").exists()


@pytest.mark.parametrize(("space", "method"), CASES)
def test_on_digits(space, method, tmp_path):
    check(space, method, "digits", tmp_path, limit_train=512)


@pytest.mark.parametrize(
    ("space", "method"),
    [("nas-bench-201", "pc-darts"), ("darts", "p-darts"), ("mobilenet", "beta-darts")],
)
def test_on_cifar_images(space, method, tmp_path, cifar):
    check(space, method, str(cifar), tmp_path, image_size=16)


@pytest.mark.parametrize(("space", "method"), sorted(REFUSED))
def test_refused_with_a_sentence(space, method):
    from bdp_ext.data import load

    config = SearchConfig.of(space=space, method=method, epochs=3, interval=2, alpha_start=0)
    with pytest.raises(UserError, match=rf"(?i)(--method )?{method}.*(--space|--method)"):
        Search(config, load("digits", limit=60))
