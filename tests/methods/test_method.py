"""What a method decides: that each decision is honoured, by every space, fused or not."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bdp_ext.data import load
from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS, Darts, Method
from bdp_ext.runs import checkpoint
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.mixed_op import MixedOp

SIZES = {
    "nas-bench-201": {"channels": 4, "cells": 1},
    "darts": {"channels": 2, "cells": 3},
    "mobilenet": {"channels": 4, "cells": 1},
}


class Sampled(Method):
    """One candidate an edge, drawn from the softmax, with the gradient of the softmax."""

    name = "sampled"
    skips_zeros = True

    def __init__(self) -> None:
        self.draws = 0

    def candidate_weights(self, alpha):
        self.draws += 1
        p = alpha.softmax(1)
        hard = torch.zeros_like(p).scatter(1, p.detach().multinomial(1), 1)
        return hard - p.detach() + p


@pytest.fixture
def method(monkeypatch):
    """Registers a method for one test."""

    def register(kind: type[Method]) -> type[Method]:
        monkeypatch.setitem(METHODS, kind.name, kind)
        return kind

    return register


def make(method: str, space: str = "nas-bench-201", **settings) -> Search:
    settings = {"epochs": 4, "interval": 2, "batch_size": 16, **SIZES[space], **settings}
    config = SearchConfig.of(space=space, method=method, **settings)
    return Search(config, load("digits", limit=60))


def finish_epoch(search: Search) -> dict:
    while True:
        search.step()
        if search.epoch_done:
            return search.end_epoch()


def supernet_of(space: str, kind: type[Method], **options):
    torch.manual_seed(0)
    supernet = SPACES[space].supernet(classes=3, **SIZES[space], **options).double()
    how = kind()
    supernet.alpha_to_weights, supernet.skips_zeros = how.candidate_weights, how.skips_zeros
    return supernet.to(memory_format=torch.channels_last)


@pytest.mark.parametrize("space", SPACES)
def test_only_what_is_sampled_is_computed(space):
    supernet = supernet_of(space, Sampled)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    mixed = [module for module in supernet.modules() if isinstance(module, MixedOp)]
    own = {id(p) for one in mixed for p in one.parameters()}
    for fused in (False, True):
        supernet.fused = fused
        loss = cross_entropy(supernet(images), torch.tensor([0, 1, 2, 0]))
        found = torch.autograd.grad(loss, supernet.weights(), allow_unused=True)
        used = {id(p) for p, g in zip(supernet.weights(), found, strict=True) if g is not None}
        for one in mixed:  # a candidate with weights was reached where it was the edge's choice
            reached = [
                op
                for op in one.operations
                if used & {id(parameter) for parameter in op.parameters()}
            ]
            assert len(reached) <= 1
        assert used & own


@pytest.mark.parametrize(
    ("space", "options"),
    [*((space, {}) for space in SPACES), ("nas-bench-201", {"channel_divisor": 2})],
)
def test_the_fused_path_and_the_readable_one_agree_on_what_is_sampled(space, options):
    supernet = supernet_of(space, Sampled, **options)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)

    def gradients(fused, checkpoint_cells, skips_zeros, seed) -> list[torch.Tensor]:
        supernet.fused, supernet.checkpoint_cells = fused, checkpoint_cells
        supernet.skips_zeros = skips_zeros
        torch.manual_seed(seed)
        loss = cross_entropy(supernet(images), torch.tensor([0, 1, 2, 0]))
        wanted = [*supernet.alphas(), *supernet.weights()] if skips_zeros else supernet.weights()
        return [loss.detach(), *torch.autograd.grad(loss, wanted, materialize_grads=True)]

    for seed in range(4):  # a node without any input is among them
        expected = gradients(False, False, True, seed)
        for fused, checkpointed in ((True, False), (True, True)):
            for one, other in zip(
                gradients(fused, checkpointed, True, seed), expected, strict=True
            ):
                torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)
        whole = gradients(
            False, False, False, seed
        )  # zeros computed too: the same loss and weights
        for one, other in zip(whole[1:], expected[-len(supernet.weights()) :], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_an_edge_of_zeros_alone_adds_nothing():
    supernet = supernet_of("nas-bench-201", Sampled)
    supernet.alpha_to_weights = torch.zeros_like
    for fused in (False, True):
        supernet.fused = fused
        assert supernet(torch.randn(2, 3, 8, 8, dtype=torch.float64)).isfinite().all()


class Kept(Sampled):
    name = "kept"

    def __init__(self) -> None:
        super().__init__()
        self.average = torch.zeros(())

    def end_step(self, step):
        self.average = 0.9 * self.average + 0.1 * step.supernet.alphas()[0].detach().mean()


@pytest.mark.parametrize("space", SPACES)
def test_a_method_goes_on_from_a_checkpoint(space, method, tmp_path):
    method(Kept)
    search = make("kept", space)
    finish_epoch(search)
    search.step()
    checkpoint.save(tmp_path / "checkpoint.pt", search)
    while not search.done:
        finish_epoch(search)
    again = make("kept", space)
    checkpoint.restore(checkpoint.read(tmp_path / "checkpoint.pt", search.kind), again)
    while not again.done:
        finish_epoch(again)
    assert again.alpha == search.alpha
    assert again.history == search.history
    assert again.method.draws == search.method.draws > 0
    assert torch.equal(again.method.average, search.method.average)


def test_hooks_are_called_around_steps_and_epochs(method):
    calls = []

    @method
    class Noted(Darts):
        name = "noted"

        def begin_epoch(self, supernet, epoch):
            calls.append(("begin epoch", epoch.number))

        def end_epoch(self, supernet, epoch):
            calls.append(("end epoch", epoch.number))

        def begin_step(self, step):
            calls.append(("begin step", step.supernet.alphas()[0].sum().item()))

        def end_step(self, step):
            calls.append(("end step", step.supernet.alphas()[0].sum().item()))

    search = make("noted", batch_size=30)
    finish_epoch(search)
    names = [name for name, _ in calls]
    assert names == ["begin epoch", "begin step", "end step", "end epoch", "begin epoch"]
    assert calls[1][1] != calls[2][1]
    assert (calls[0][1], calls[3][1], calls[4][1]) == (0, 0, 1)


def test_initial_alphas_and_their_optimiser_are_the_methods(method):
    @method
    class Plain(Darts):
        name = "plain"

        def init_alphas(self, alphas):
            for alpha in alphas:
                alpha.zero_()

        def alpha_optimizer(self, alphas, *, lr, weight_decay):
            return torch.optim.SGD(alphas, lr)

    search = make("plain")
    assert not any(alpha.any() for alpha in search.supernet.alphas())
    assert type(search.alpha_optimizer) is torch.optim.SGD


def test_with_one_level_alpha_and_weights_go_down_the_same_loss(method):
    @method
    class Single(Darts):
        name = "single"
        levels = 1

    search = make(
        "single",
        batch_size=30,
        momentum=0.0,
        weight_decay=0.0,
        clip=1e6,
        eigenvalue_every=1,
    )
    valid = search.valid.size
    alpha, weight = search.supernet.alphas()[0], search.supernet.classifier.weight
    before = weight.detach().clone(), alpha.detach().clone()
    expected = []

    def watch(step):
        loss = cross_entropy(step.supernet(step.train.images), step.train.target)
        expected.append(before[0] - 0.025 * torch.autograd.grad(loss, weight)[0])

    search.method.begin_step = watch
    search.step()
    del search.method.begin_step
    torch.testing.assert_close(weight.detach(), expected[0], rtol=1e-5, atol=1e-7)
    assert not torch.equal(alpha, before[1])
    record = search.end_epoch()
    assert record["eigenvalue"] == record["eigenvalue"]
    while not search.done:
        finish_epoch(search)
    assert search.samples()["valid"] == search.samples_unpruned()["valid"] == 0
    assert search.valid.size == valid
    assert search.train.size < 30
    assert {row["level"] for row in search.prunings()} == {"train"}


def test_a_method_may_stop_a_search(method, tmp_path):
    @method
    class Short(Darts):
        name = "short"

        def should_stop(self, history):
            return len(history) == 3

    search = make("short", epochs=6)
    while not search.done:
        finish_epoch(search)
    assert len(search.history) == 3
    assert search.samples_unpruned() == {"train": 90, "valid": 90}
    checkpoint.save(tmp_path / "checkpoint.pt", search)
    again = make("short", epochs=6)
    checkpoint.restore(checkpoint.read(tmp_path / "checkpoint.pt", search.kind), again)
    assert again.done


@pytest.mark.parametrize("option", ["compile", "cuda_graphs"])
def test_what_is_sampled_is_neither_compiled_nor_captured(option, method):
    method(Sampled)
    name = option.replace("_", "-")
    with pytest.raises(UserError, match=f"--{name} does not go with --method sampled, which"):
        SearchConfig.of(method="sampled", **{option: True})


def test_unreached_weights_stay_as_they_are(method):
    @method
    class NoneAtAll(Darts):
        name = "none-at-all"
        skips_zeros = True

        def candidate_weights(self, alpha):
            return torch.cat([alpha.softmax(1)[:, :1], torch.zeros_like(alpha[:, 1:])], 1)

    search = make("none-at-all")
    before = {name: p.detach().clone() for name, p in search.supernet.named_parameters()}
    search.step()
    convolutions = [
        name
        for name, module in search.supernet.named_modules()
        if ".operations." in name and isinstance(module, nn.Conv2d)
    ]
    assert convolutions
    after = dict(search.supernet.named_parameters())
    for name in convolutions:
        assert torch.equal(after[f"{name}.weight"], before[f"{name}.weight"])
    assert not torch.equal(after["classifier.weight"], before["classifier.weight"])
