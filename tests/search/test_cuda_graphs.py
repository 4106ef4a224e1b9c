"""Compiled supernets and CUDA graphs: the same search, partial batches included."""

import pytest
import torch
from jobs import finish
from torch._dynamo.testing import CompileCounterWithBackend

from bdp_ext.data import load
from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS, Batch, Loss
from bdp_ext.search import cuda_graphs, loop
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.cuda_graphs import WARM, Graphs, compiled
from bdp_ext.search.loop import Search
from bdp_ext.spaces import SPACES

BATCH = 32
SMALL = {
    "epochs": 4,
    "interval": 2,
    "channels": 2,
    "cells": 1,
    "batch_size": BATCH,
    "limit_train": 300,
    "eigenvalue_every": 2,
}


@pytest.fixture(scope="module")
def digits():
    return load("digits", limit=300)


def imitated_capture(function):
    """Computes again on the same memory, as a graph does; its first results are no results."""
    gradients, loss = function()
    places = [*gradients, *loss]
    for place in places:
        place.detach().fill_(float("nan"))

    def replay() -> None:
        again, loss = function()
        for place, tensor in zip(places, [*again, *loss], strict=True):
            place.detach().copy_(tensor)

    return replay, (gradients, loss)


def test_a_graph_gets_every_batch_in_the_same_memory():
    captures, seen = [], []

    def capture(function):
        captures.append(function)
        return imitated_capture(function)

    def function(batch: Batch):
        seen.append(batch)
        return [batch.images.sum(0)], Loss(batch.images.mean(), batch.images * 2)

    graphs = Graphs(4, capture)
    for number in range(6):
        images = torch.full((4, 3), float(number))
        batch = Batch(torch.arange(4), images, torch.arange(4) % (number + 1))
        gradients, loss = graphs(function, batch)
        assert gradients[0].tolist() == [4.0 * number] * 3
        assert loss.logits[0, 0] == 2.0 * number
        assert torch.equal(seen[-1].target, batch.target)
        assert len(captures) == (number >= WARM)
    assert len({id(batch) for batch in seen[WARM:]}) == 1
    # Its own memory: the caller's batch is not held.
    assert seen[-1].images.data_ptr() != images.data_ptr()

    partial = Batch(torch.arange(3), torch.ones(3, 3), torch.arange(3))
    assert graphs(function, partial)[0][0].tolist() == [3.0] * 3
    assert seen[-1] is partial
    assert len(captures) == 1

    graphs.reset()
    graphs(function, batch)
    assert len(captures) == 2
    graphs.restart()
    graphs(function, batch)
    assert seen[-1] is batch  # warms up again
    assert len(captures) == 2


@pytest.mark.parametrize(("method", "pruner"), [("darts", "infobatch"), ("darts-2nd", "bdp")])
def test_a_search_by_graphs_is_the_same_search(digits, monkeypatch, method, pruner):
    """Weighted losses and the learning rates of each epoch included."""
    config = SearchConfig.of(**SMALL, method=method, pruner=pruner)
    plain = finish(Search(config, digits))

    captures = []

    def capture(function):
        captures.append(function)
        return imitated_capture(function)

    monkeypatch.setattr(
        Search, "_make_graphs", lambda self: Graphs(self.config.batch_size, capture)
    )
    search = finish(Search(config, digits))
    # Of each epoch, one for alpha and one for the weights, as long as its batches are full.
    assert 2 < len(captures) <= 2 * SMALL["epochs"]
    assert search.history == plain.history
    assert [row["after"] for row in search.prunings()] == [row["after"] for row in plain.prunings()]
    for ours, theirs in zip(search.supernet.weights(), plain.supernet.weights(), strict=True):
        assert torch.equal(ours, theirs)


def test_graphs_need_a_gpu(digits):
    with pytest.raises(UserError, match=r"--cuda-graphs needs a GPU.*runs on cpu"):
        Search(SearchConfig(**SMALL, cuda_graphs=True, device="cpu"), digits)


def test_a_compiled_search_is_the_same_search(digits, monkeypatch):
    """One compilation for each half of a step, and none for the partial batches that change with
    each pruning."""
    settings = {**SMALL, "channels": 4}
    plain = finish(Search(SearchConfig.of(**settings), digits))

    counter = CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()
    monkeypatch.setattr(loop, "compiled", lambda *a: compiled(*a, backend=counter, fullgraph=True))
    search = finish(Search(SearchConfig.of(**settings, compile=True), digits))
    torch.compiler.reset()
    assert counter.frame_count == 2  # alpha, and weights
    assert search.steps == plain.steps
    assert [r["train"] for r in search.history] == [r["train"] for r in plain.history]
    for ours, theirs in zip(search.supernet.alphas(), plain.supernet.alphas(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("space", "method"), [("darts", "pc-darts"), ("mobilenet", "darts")])
def test_a_supernet_compiles_as_one_graph(space, method):
    torch.manual_seed(0)
    supernet = METHODS[method]().supernet(
        SPACES[space].for_images(16), channels=8, cells=3, classes=3
    )
    supernet.to(memory_format=torch.channels_last)
    supernet.fused = True
    images = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    torch.compiler.reset()
    forward = compiled(supernet, 4, backend="eager", fullgraph=True)
    torch.testing.assert_close(forward(images), supernet(images))
    torch.compiler.reset()


def test_second_derivatives_are_taken_of_what_is_not_compiled(monkeypatch):
    """The weight step is compiled, the alpha step goes through it twice."""
    settings = {**SMALL, "epochs": 2, "limit_train": 2 * BATCH, "bdp": False}
    config = SearchConfig.of(**settings, method="darts-2nd-exact", compile=True)
    counter = CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()
    monkeypatch.setattr(loop, "compiled", lambda *a: compiled(*a, backend=counter))
    search = Search(config, load("digits", limit=2 * BATCH))
    before = search.alpha
    search.step()
    torch.compiler.reset()
    assert counter.frame_count == 1
    assert search.alpha != before


def test_what_compiling_does_not_go_with():
    with pytest.raises(UserError, match="--compile does not go with --pruner grand"):
        SearchConfig.of(**SMALL, compile=True, pruner="grand")
    with pytest.raises(UserError, match="--compile does not go with --method p-darts"):
        SearchConfig.of(space="darts", method="p-darts", compile=True)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize(
    "options", [{}, {"compile": True}, {"amp": True}, {"method": "darts-2nd"}, {"pruner": "grand"}]
)
def test_a_search_by_cuda_graphs(digits, options):
    """The same kernels on the same numbers give the same search; compiled ones nearly."""
    settings = {**SMALL, "amp": False, "device": "cuda", **options}
    plain = finish(Search(SearchConfig.of(**{**settings, "compile": False}), digits))
    search = finish(Search(SearchConfig.of(**settings, cuda_graphs=True), digits))
    assert isinstance(search._graphs, cuda_graphs.Graphs)
    for ours, theirs in zip(search.supernet.alphas(), plain.supernet.alphas(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-2, atol=1e-3)
