"""voe: the variance of a window, exact where exact is meant."""

import oracles
import pytest
import torch
from oracles import NAN, same_voe
from torch import Tensor

from bdp_ext import ops


def random_window(length: int, samples: int, unknown: float = 0.2) -> Tensor:
    generator = torch.Generator().manual_seed(length * 1000 + samples)
    window = torch.rand(length, samples, generator=generator) * 2**0.5
    window[torch.rand(length, samples, generator=generator) < unknown] = NAN
    return window


@pytest.mark.parametrize("unknown", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("length", [2, 10, 17, 300])
@pytest.mark.parametrize("samples", [1, 50, 131])
def test_matches_float64(implementation: str, length: int, samples: int, unknown: float) -> None:
    window = random_window(length, samples, unknown)
    variance = ops.voe(window)
    assert variance.dtype == torch.float32
    assert oracles.relative_error(variance, oracles.voe(window)) <= 1e-6


def test_after_600_updates(implementation: str) -> None:
    """Decaying scores, where running sums in float32 go negative (half of them, measured)."""
    generator = torch.Generator().manual_seed(0)
    window = torch.full((10, 200), NAN)
    variance = torch.full((200,), NAN)
    start, decay = torch.rand(200, generator=generator), torch.rand(200, generator=generator)
    target, index = torch.zeros(200, dtype=torch.int64), torch.arange(200)
    for epoch in range(600):
        margin = 20 * start + 8 * decay * epoch / 600 + torch.rand(200, generator=generator)
        logits = torch.stack([margin, torch.zeros(200)], 1)
        ops.update_voe_(window, variance, epoch % 10, index, logits, target)
    expected = oracles.voe(window)
    assert oracles.relative_error(variance, expected) <= 1e-6
    assert same_voe(implementation, ops.voe(window), variance)
    assert (variance >= 0).all()


@pytest.mark.parametrize("length", [2, 10, 33])
def test_constant_window_is_exactly_zero(implementation: str, length: int) -> None:
    window = torch.rand(1, 1000).expand(length, 1000).clone()
    window[:, ::3] *= 1e-30
    assert (ops.voe(window) == 0).all()
    window[0, :500] = NAN
    window[-1, 250:] = NAN
    known_twice = (~window.isnan()).sum(0) >= 2
    variance = ops.voe(window)
    assert (variance[known_twice] == 0).all()
    assert variance[~known_twice].isnan().all()


def test_never_negative(implementation: str) -> None:
    window = 1.0 + torch.rand(10, 10_000) * 1e-6
    assert (ops.voe(window) >= 0).all()


@pytest.mark.parametrize("length", [0, 1, 2, 10])
def test_below_two_scores_is_nan(implementation: str, length: int) -> None:
    window = torch.full((length, 40), NAN)
    if length:
        window[length // 2] = 0.5
    assert ops.voe(window).isnan().all()


@pytest.mark.parametrize("samples", [0, 5])
def test_empty(implementation: str, samples: int) -> None:
    assert ops.voe(torch.empty(0, samples)).shape == (samples,)
    assert ops.voe(torch.empty(10, 0)).shape == (0,)


def test_strided_window(implementation: str) -> None:
    window = random_window(10, 101)
    wide = torch.cat([window, window], 1)
    for view in (window.t().contiguous().t(), wide[:, 101:], wide[:, 50:151:2]):
        assert same_voe(implementation, ops.voe(view), ops.voe(view.contiguous()))
    assert oracles.relative_error(ops.voe(wide[:, 101:]), oracles.voe(window)) <= 1e-6


def test_does_not_depend_on_threads_or_neighbours(implementation: str, threads: int) -> None:
    window = random_window(10, 50_003)
    whole = ops.voe(window)
    assert oracles.relative_error(whole[-100:], oracles.voe(window[:, -100:])) <= 1e-6
    pieces = [ops.voe(window[:, i : i + 997]) for i in range(0, 50_003, 997)]
    assert same_voe(implementation, whole, torch.cat(pieces))


def test_writes_nothing(implementation: str) -> None:
    window = random_window(10, 100)
    before = window.clone()
    ops.voe(window)
    torch.testing.assert_close(window, before, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (torch.zeros(10), "window must be a 2-d float32 tensor"),
        (torch.zeros(10, 5, dtype=torch.float64), "got .* float64"),
    ],
)
def test_rejects(implementation: str, window: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"voe: .*{message}"):
        ops.voe(window)


def test_is_a_good_citizen_of_torch() -> None:
    window = random_window(10, 100, unknown=0.0)
    torch.library.opcheck(torch.ops.bdp_ext.voe.default, (window,))
    compiled = torch.compile(ops.voe, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(window), ops.voe(window))
