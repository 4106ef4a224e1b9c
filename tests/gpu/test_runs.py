"""What runs on a GPU runs to its end on a fake one, in every precision, and mixes no devices."""

import pytest
import torch
from fake_gpu import fake_gpu
from jobs import finish
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import bdp_ext
from bdp_ext.data import load
from bdp_ext.methods import METHODS
from bdp_ext.pruning.baselines import PRUNERS
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.loop import Retrain
from bdp_ext.runs.checkpoint import read, restore, save
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.cuda_graphs import Graphs
from bdp_ext.search.loop import Search
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.published import PUBLISHED

CELLS = {"nas-bench-201": 1, "darts": 3, "mobilenet": 1}
REFUSED = {("nas-bench-201", "p-darts"), ("mobilenet", "p-darts"), ("mobilenet", "pc-darts")}
# With float16's first scale of the loss the first steps overflow and are left out, as on a GPU.
pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step\\(\\)` before")
PRECISIONS = {  # amp, and whether the GPU has bfloat16
    "float32": (False, True),
    "bfloat16": (None, True),
    "float16": (None, False),
}
# The product in float32; in half precision each method, on the space that takes the least time. The
# others run so in test_counts.py.
SEARCHES = [
    (space, method, "float32")
    for space in SPACES
    for method in METHODS
    if (space, method) not in REFUSED
]
SEARCHES += [
    ("nas-bench-201", "darts", "bfloat16"),
    ("nas-bench-201", "darts", "float16"),
    ("nas-bench-201", "darts-2nd", "bfloat16"),
    ("nas-bench-201", "darts-2nd", "float16"),
    ("nas-bench-201", "darts-2nd-exact", "float16"),
    ("nas-bench-201", "pc-darts", "bfloat16"),
    ("nas-bench-201", "beta-darts", "float16"),
    ("mobilenet", "darts", "bfloat16"),
]
SMALL = {
    "data": "digits",
    "device": "cuda",
    "epochs": 3,
    "interval": 2,
    "channels": 4,
    "cells": 1,
    "batch_size": 12,
    "train_share": 0.5,
    "alpha_start": 0,
}


@pytest.fixture(scope="module")
def digits():
    return load("digits", limit=24)


def search(digits, precision="bfloat16", **settings) -> Search:
    amp, _ = PRECISIONS[precision]
    return Search(SearchConfig.of(**SMALL | {"amp": amp} | settings), digits)


def check(done: Search) -> None:
    levels = {row["level"] for row in done.prunings() if row["taken"]}
    assert levels == {"train", "valid"}
    assert all(alpha.is_cuda and alpha.isfinite().all() for alpha in done.supernet.alphas())
    assert all(weight.is_cuda for weight in done.supernet.weights())


@pytest.mark.parametrize(("space", "method", "precision"), SEARCHES)
def test_a_search(digits, space, method, precision):
    settings = {"cells": CELLS[space], "channels": 8 if method == "pc-darts" else 4}
    with fake_gpu(bf16=PRECISIONS[precision][1]) as log:
        done = finish(search(digits, precision, space=space, method=method, **settings))
        check(done)
    scored = log.kernels_by(lambda launch: launch.op)["bdp_ext::update_voe_"]
    batches = 2 * done.epochs if METHODS[method].levels == 2 else done.epochs
    assert scored >= batches


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_pruner(digits, pruner):
    with fake_gpu():
        done = finish(search(digits, "float32", pruner=pruner))
        assert bool(done.prunings()) == (pruner != "none")
        assert all(alpha.isfinite().all() for alpha in done.supernet.alphas())


@pytest.mark.parametrize(("pruner", "precision"), [("grand", "bfloat16"), ("glister", "float16")])
def test_a_pruner_that_reads_features_in_half_precision(digits, pruner, precision):
    with fake_gpu(bf16=PRECISIONS[precision][1]):
        assert finish(search(digits, precision, pruner=pruner)).prunings()


@pytest.mark.parametrize(
    ("settings", "precision"),
    [
        ({"eigenvalue_every": 3}, "bfloat16"),
        ({"checkpoint_cells": True}, "float32"),
        ({"checkpoint_cells": True}, "float16"),
        ({"fused": False}, "bfloat16"),
        ({"criterion": "random"}, "float32"),
    ],
)
def test_an_option(digits, settings, precision):
    with fake_gpu(bf16=PRECISIONS[precision][1]):
        done = finish(search(digits, precision, **settings))
        check(done)
        if "eigenvalue_every" in settings:
            assert abs(done.history[-1]["eigenvalue"]) < 100


def test_a_search_is_the_cpus(digits):
    """The same numbers, so the same samples go."""
    cpu = finish(search(digits, "float32", device="cpu"))
    with fake_gpu():
        gpu = finish(search(digits, "float32"))
        assert [row["after"] for row in gpu.prunings()] == [row["after"] for row in cpu.prunings()]
        for ours, theirs in zip(gpu.supernet.alphas(), cpu.supernet.alphas(), strict=True):
            torch.testing.assert_close(ours.cpu(), theirs.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "precision"),
    [("darts", "bfloat16"), ("darts-2nd", "float32"), ("beta-darts", "float32")],
)
def test_a_search_by_graphs(digits, monkeypatch, method, precision):
    """Nothing waits while a graph is captured, and the search is the same."""
    with fake_gpu() as log:
        plain = finish(search(digits, precision, method=method, batch_size=4))
        captures = []

        def capture(function):
            captures.append(function)
            return log.capture(function)

        monkeypatch.setattr(
            Search, "_make_graphs", lambda self: Graphs(self.config.batch_size, capture)
        )
        done = finish(search(digits, precision, method=method, batch_size=4, cuda_graphs=True))
        assert captures
        assert done.history == plain.history


def test_a_search_is_resumed(digits, tmp_path):
    with fake_gpu():
        whole = finish(search(digits))
        half = search(digits)
        half.step()
        half.end_epoch()
        save(tmp_path / "checkpoint.pt", half)
        resumed = search(digits)
        restore(read(tmp_path / "checkpoint.pt", "search"), resumed)
        assert finish(resumed).history == whole.history


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(
    "settings",
    [
        {"auxiliary": 0.0, "drop_path": 0.5},
        {
            "auxiliary": 0.0,
            "optimizer": "rmsprop",
            "dropout": 0.3,
            "ema": 0.9,
            "label_smoothing": 0.1,
        },
    ],
)
def test_a_retraining(digits, precision, settings):
    amp, bf16 = PRECISIONS[precision]
    config = RetrainConfig.of(
        space="darts",
        genotype=str(PUBLISHED["DARTS_V2"]),
        data="digits",
        epochs=2,
        channels=4,
        cells=3,
        batch_size=12,
        device="cuda",
        amp=amp,
        **settings,
    )
    with fake_gpu(bf16=bf16):
        job = finish(Retrain(config, digits, load("digits", split="test", limit=12)))
        assert 0 <= job.history[-1]["top1"] <= 1


class Labelled(TensorDataset):
    targets = torch.arange(48) % 3


@pytest.mark.parametrize("amp", [False, True])
@pytest.mark.parametrize("asynchronous", [False, True])
def test_the_drop_in_where_the_loop_copies_its_batches(amp, asynchronous):
    """As the public repositories do it."""
    torch.manual_seed(0)
    data = Labelled(torch.randn(48, 5), Labelled.targets)
    with fake_gpu():
        criterion = nn.CrossEntropyLoss().cuda()
        model = nn.Linear(5, 3).cuda()
        sgd = torch.optim.SGD(model.parameters(), 0.1)
        queues = [DataLoader(data, 8, shuffle=True) for _ in range(2)]
        train, valid = bdp_ext.prune(*queues, criterion, epochs=5, interval=2, balance="none")
        for _ in range(5):
            for images, target in train:
                others = next(iter(valid))
                for batch, labels in ((images, target), others):
                    batch = batch.cuda(non_blocking=asynchronous)
                    labels = labels.cuda(non_blocking=asynchronous)
                    sgd.zero_grad()
                    with torch.autocast("cuda", enabled=amp):
                        loss = criterion(model(batch), labels)
                    loss.backward()
                    sgd.step()
        live = train.pruner.live_indices
        assert len(live["train"]) < 48
        assert len(live["valid"]) < 48
