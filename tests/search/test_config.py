"""The settings of a search and what is refused."""

import pytest
import torch

from bdp_ext.errors import UserError
from bdp_ext.search.config import SearchConfig


def test_defaults_are_the_papers():
    config = SearchConfig()
    assert (config.epochs, config.batch_size, config.channels, config.cells) == (50, 64, 16, 5)
    assert config.level_schedule("train").prunings == tuple(range(5, 50, 5))
    assert config.criterion == "low-high"


@pytest.mark.parametrize(("epochs", "interval"), [(3, 2), (4, 2), (15, 3), (50, 5), (100, 5)])
def test_interval_is_a_quarter_of_the_search_by_default(epochs, interval):
    config = SearchConfig(epochs=epochs)
    assert config.interval == config.level_schedule("valid").interval == interval


def test_keep_and_prune_reach_their_level():
    config = SearchConfig(keep_train=0.1, prune_valid=0.2, schedule="linear", warmup=10)
    train, valid = config.level_schedule("train"), config.level_schedule("valid")
    assert (train.keep, train.ratio, valid.keep, valid.ratio) == (0.1, None, None, 0.2)
    assert train.prunings[0] == 10
    assert valid.kind == "linear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "darts2"}, "--space must be one of nas-bench-201"),
        ({"method": "adam"}, "--method"),
        ({"criterion": "low"}, "--criterion"),
        ({"balance": "most"}, "--balance"),
        ({"epochs": 0}, "--epochs must be a whole number, at least 1"),
        ({"batch_size": 0}, "--batch-size"),
        ({"threads": 0}, "--threads"),
        ({"keep_train": 0.1, "prune_train": 0.1}, "--keep-train or --prune-train, not both"),
        ({"epochs": 5, "interval": 5}, "train level: 5 epochs leave no pruning"),
        ({"epochs": 2}, "the search ends after epoch 2, .*take three epochs or more"),
        ({"keep_valid": 0.0}, "--keep-valid must be a number, above 0 and at most 1"),
        ({"epochs": "50"}, "--epochs must be a whole number"),
        ({"epochs": True}, "--epochs"),
        ({"fused": 1}, "--fused must be true or false"),
        ({"data": None}, "--data must be a word"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(UserError, match=message):
        SearchConfig(**options)


def test_search_without_pruning_needs_no_schedule():
    assert not SearchConfig(epochs=1, bdp=False).bdp


def test_device():
    assert SearchConfig(device="cpu").torch_device() == torch.device("cpu")
    for name in ("gpu", "cuda:99"):
        with pytest.raises(UserError, match=f"--device {name} cannot be used"):
            SearchConfig(device=name).torch_device()


def test_differences_leave_out_where_it_runs():
    one = SearchConfig()
    assert one.differences({"interval": 5, "threads": 2, "device": "cpu"}) == []
    other = {"interval": 5, "epochs": 20, "keep_train": 0.1}
    assert one.differences(other) == ["--epochs", "--keep-train"]
