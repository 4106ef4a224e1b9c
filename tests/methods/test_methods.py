"""The methods: their gradients against numerical derivatives, their schedules, their supernets."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bdp_ext.data import load
from bdp_ext.methods import METHODS, Batch, Method, Step, darts
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search
from bdp_ext.spaces import SPACES

LR = 0.05


def batch(seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(6, 3, 8, 8, dtype=torch.float64, generator=generator)
    return Batch(torch.arange(6), images, torch.randint(3, (6,), generator=generator))


def make_step(space: str = "nas-bench-201", method: Method | None = None, epoch: int = 0) -> Step:
    torch.manual_seed(0)
    method = method or METHODS["darts"]()
    channels = 8 if method.name == "pc-darts" else 2
    cells = 3 if space == "darts" else 1
    supernet = method.supernet(SPACES[space], channels=channels, cells=cells, classes=3).double()
    return Step(
        supernet,
        train=batch(1),
        epoch=epoch,
        epochs=11,
        lr=LR,
        autocast=torch.autocast("cpu", enabled=False),
        scale=lambda loss: loss,
    )


def unrolled_loss(step: Step, valid: Batch) -> float:
    """L_val(w - lr grad_w L_train(w, alpha), alpha), from its definition."""
    weights = step.supernet.weights()
    loss = cross_entropy(step.supernet(step.train.images), step.train.target)
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight -= LR * gradient
        after = cross_entropy(step.supernet(valid.images), valid.target).item()
        for weight, old in zip(weights, before, strict=True):
            weight.copy_(old)
    return after


def numerical_gradient(step: Step, loss_of) -> torch.Tensor:
    alpha, h = step.supernet.alphas()[0], 1e-5
    gradient = torch.zeros_like(alpha)
    for entry in range(alpha.numel()):
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                alpha.view(-1)[entry] += sign * h
            ends.append(loss_of())
            with torch.no_grad():
                alpha.view(-1)[entry] -= sign * h
        gradient.view(-1)[entry] = (ends[0] - ends[1]) / (2 * h)
    return gradient


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize(("name", "bound"), [("darts-2nd", 1e-4), ("darts-2nd-exact", 1e-6)])
def test_second_order_is_the_derivative_of_the_unrolled_loss(name, bound, monkeypatch):
    # At the authors' length of 0.01 a perturbation crosses kinks of ReLU, which a derivative
    # does not see; float64 allows a shorter one.
    monkeypatch.setattr(darts, "FINITE_DIFFERENCE", 1e-5)
    step, valid = make_step(), batch(2)
    weights = [weight.detach().clone() for weight in step.supernet.weights()]
    gradients, loss = METHODS[name]().architecture_gradients(step, valid)
    expected = numerical_gradient(step, lambda: unrolled_loss(step, valid))
    assert relative(gradients[0], expected) < bound
    first, _ = METHODS["darts"]().architecture_gradients(step, valid)
    assert relative(first[0], expected) > 100 * bound  # the second-order term is there
    # The score is that of the step ahead; the weights are back, bit for bit.
    assert loss.value.item() == pytest.approx(unrolled_loss(step, valid), rel=1e-12)
    for weight, old in zip(step.supernet.weights(), weights, strict=True):
        assert torch.equal(weight, old)


@pytest.mark.parametrize("name", ["darts-2nd", "darts-2nd-exact"])
def test_second_order_under_loss_scaling(name):
    step, valid = make_step(), batch(2)
    plain, _ = METHODS[name]().architecture_gradients(step, valid)
    scaled_step = Step(**{**vars(step), "scale": lambda loss: loss * 1024})
    scaled, _ = METHODS[name]().architecture_gradients(scaled_step, valid)
    assert relative(scaled[0] / 1024, plain[0]) < 1e-9


def test_first_order_is_the_derivative_at_the_weights_as_they_are():
    step, valid = make_step(), batch(2)

    def loss() -> float:
        return cross_entropy(step.supernet(valid.images), valid.target).item()

    gradients, found = METHODS["darts"]().architecture_gradients(step, valid)
    assert relative(gradients[0], numerical_gradient(step, loss)) < 1e-6
    assert found.value.item() == pytest.approx(loss(), rel=1e-12)


@pytest.mark.parametrize(("epoch", "weight"), [(0, 0), (5, 25), (10, 50)])
def test_beta_darts_lambda_rises_linearly_to_50(epoch, weight):
    valid = batch(2)
    step = make_step(epoch=epoch)
    plain = METHODS["darts"]().architecture_loss(step, valid).value
    loss = METHODS["beta-darts"]().architecture_loss(step, valid).value
    added = step.supernet.alphas()[0].logsumexp(1).mean()
    assert (loss - plain).item() == pytest.approx(weight * added.item(), rel=1e-9)


def test_pc_darts_supernets():
    supernet = METHODS["pc-darts"]().supernet(SPACES["darts"], channels=16, cells=8, classes=10)
    assert sum(weight.numel() for weight in supernet.weights()) == 299_578
    assert [alpha.dim() for alpha in supernet.alphas()] == [2, 2, 1, 1]


@pytest.mark.parametrize("space", ["nas-bench-201", "darts"])
def test_pc_darts_cell_from_its_definition(space):
    step = make_step(space, METHODS["pc-darts"]())
    cells = [m for m in step.supernet.modules() if type(m).__name__.endswith("SupernetCell")]
    edge = cells[0].edges[-1]  # reads a node, so that it has no stride in a reduction cell either
    c = edge.searched
    x = torch.randn(2, 4 * c, 8, 8, dtype=torch.float64)
    weights = torch.rand(len(edge.mixed.operations), dtype=torch.float64)
    y = sum(w * op(x[:, :c]) for w, op in zip(weights, edge.mixed.operations, strict=True))
    whole = torch.cat([y, x[:, c:]], 1)
    shuffled = whole.view(2, 4, c, 8, 8).transpose(1, 2).reshape(2, 4 * c, 8, 8)
    torch.testing.assert_close(edge(x, weights), shuffled, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(
        cross_entropy(step.supernet(step.train.images), step.train.target), step.supernet.alphas()
    )
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_edge_weights_decide_the_inputs_of_a_pc_darts_cell():
    alpha = torch.zeros(14, 8)
    alpha[:, 3] = 1
    beta = torch.zeros(14)
    beta[[1, 4, 2]] = torch.tensor([2.0, 3.0, 1.0])  # node 0: 1; node 1: 2, then 0
    found = SPACES["darts"].derive([alpha, alpha, beta, beta])["architecture"]
    assert found.startswith(
        "Genotype(normal=[('skip_connect', 1), ('skip_connect', 0), "
        "('skip_connect', 2), ('skip_connect', 0)"
    )


def test_pc_darts_alpha_waits_and_its_level_is_neither_seen_nor_pruned_before():
    config = SearchConfig.of(
        method="pc-darts", epochs=24, interval=2, channels=4, cells=1, alpha_start=15
    )
    assert config.batch_size == 256
    assert config.level_schedule("train").prunings[0] == 2
    assert config.level_schedule("valid").prunings[0] == 18  # two scores from epoch 16 on
    digits = load("digits", limit=100)
    search = Search(config, digits)
    start = search.alpha
    while search.epoch < 15:
        search.step()
        search.end_epoch()
    assert search.alpha == start
    assert search.samples()["valid"] == 0
    assert search.valid.size == 50
    while not search.done:
        search.step()
        search.end_epoch()
    assert search.alpha != start
    assert search.samples()["valid"] == 50 * 3 + 35 * 2 + 25 * 2 + 18 * 2
    assert search.samples_unpruned() == {"train": 24 * 50, "valid": 9 * 50}


@pytest.mark.parametrize(
    ("method", "epochs", "interval", "start"),
    [
        ("pc-darts", 50, 5, 15),
        ("pc-darts", 20, 5, 6),
        ("pc-darts", 4, 2, 0),  # two scores by the only pruning
        ("p-darts", 25, 5, 10),
        ("p-darts", 10, 2, 4),
        ("darts", 50, 5, 0),
    ],
)
def test_late_alpha_starts_scale_with_the_epochs(method, epochs, interval, start):
    space = "darts" if method == "p-darts" else "nas-bench-201"
    config = SearchConfig.of(space=space, method=method, epochs=epochs, interval=interval)
    assert config.alpha_start == start
    for level in ("train", "valid"):
        assert config.level_schedule(level).prunings
