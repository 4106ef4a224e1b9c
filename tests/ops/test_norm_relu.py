"""norm_relu: value and gradients against torch's batch norm and ReLU in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn.functional import batch_norm

from bdp_ext import ops
from ops.test_node_sum import HALF, HALF_SHAPES, SHAPES, image, in_type, tolerance, worst


def plain(x: Tensor) -> Tensor:
    return batch_norm(x.double(), None, None, training=True).relu()


def value_and_gradient(
    function: Callable[[Tensor], Tensor], x: Tensor, grad: Tensor
) -> list[Tensor]:
    y = function(x)
    return [y, *torch.autograd.grad(y, [x], grad.to(y.dtype))]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matches_float64(implementation: str, shape: tuple[int, ...]) -> None:
    check(shape)


def test_many_slices(implementation: str) -> None:
    check((65, 16, 32, 32))


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("shape", HALF_SHAPES, ids=str)
def test_half_precision(implementation: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    check(shape, dtype, implementation)


def check(
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float32,
    implementation: str = "",
    device: str = "cpu",
) -> None:
    images = image(*shape, spread=3.0, mean=-2.0), image(*shape, seed=1)
    narrow, wide = in_type(dtype, images, device)
    got = value_and_gradient(ops.norm_relu, narrow[0], narrow[1].detach())
    assert got[0].dtype == got[1].dtype == dtype
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    expected = value_and_gradient(plain, wide[0], wide[1].detach())
    assert worst([x.cpu() for x in got], expected) <= tolerance(dtype, implementation)


def test_backward_passes_what_forward_passed(implementation: str) -> None:
    """Values that equal their mean give 0, and 0 passes no gradient."""
    x = torch.tensor([-2.0, 0.0, 0.0, 2.0]).view(4, 1, 1, 1).requires_grad_()
    grad = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(4, 1, 1, 1)
    got = value_and_gradient(ops.norm_relu, x, grad)
    assert (got[0].flatten() > 0).tolist() == [False, False, False, True]
    assert worst(got, value_and_gradient(plain, x, grad)) <= 1e-6


def test_nan_stays_in_its_channel(implementation: str) -> None:
    x = image(2, 5, 4, 4)
    x[1, 3, 2, 2] = float("nan")
    assert ops.norm_relu(x).isnan().flatten(2).all(2).any(0).tolist() == [False] * 3 + [True, False]


def test_any_layout(implementation: str) -> None:
    x, grad = image(4, 8, 6, 6), image(4, 8, 6, 6, seed=1)
    expected = value_and_gradient(ops.norm_relu, x.requires_grad_(), grad)
    other = x.detach().contiguous().requires_grad_()
    got = value_and_gradient(ops.norm_relu, other, torch.cat([grad, grad], 1)[:, :8])
    assert worst(got, expected) <= (1e-6 if implementation == "reference" else 0)


def test_gradcheck() -> None:
    """The formulas, in float64."""
    x = image(3, 2, 2, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(ops.norm_relu, x)
    assert torch.autograd.gradgradcheck(ops.norm_relu, x)


def test_second_derivative(implementation: str) -> None:
    x, grad = image(3, 8, 4, 4).requires_grad_(), image(3, 8, 4, 4, seed=1)
    direction = image(3, 8, 4, 4, seed=2)

    def second(function: Callable[[Tensor], Tensor]) -> tuple[Tensor, ...]:
        y = function(x).sin()
        g = grad.to(y.dtype).requires_grad_()
        (first,) = torch.autograd.grad(y, x, g, create_graph=True)
        return torch.autograd.grad((first * direction).sum(), [g, x])

    assert worst(second(ops.norm_relu), second(plain)) <= 1e-5


def test_float64() -> None:
    x, grad = image(4, 8, 6, 6).double().requires_grad_(), image(4, 8, 6, 6, seed=1).double()
    got = value_and_gradient(ops.norm_relu, x, grad)
    assert got[0].dtype == got[1].dtype == torch.float64
    assert worst(got, value_and_gradient(plain, x, grad)) <= 1e-14


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.ones(3, 4, 4), "must be a 4-d"),
        (torch.ones(2, 3, 4, 4).long(), "int64"),
        (torch.ones(2, 0, 4, 4), "must not be empty"),
    ],
)
def test_rejects(implementation: str, x: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"norm_relu: x .*{message}"):
        ops.norm_relu(x)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # opcheck's own
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_is_a_good_citizen_of_torch(dtype: torch.dtype) -> None:
    x, grad = in_type(dtype, [image(4, 8, 6, 6), image(4, 8, 6, 6, seed=1)])[0]
    names = torch.ops.bdp_ext
    torch.library.opcheck(names.norm_relu.default, (x, 1e-5))
    _, mean, rstd = names.norm_relu(x, 1e-5)
    torch.library.opcheck(names.norm_relu_backward.default, (grad, x, mean, rstd, 1e-5))
    compiled = torch.compile(ops.norm_relu, fullgraph=True, backend="aot_eager")
    got = value_and_gradient(compiled, x, grad)
    assert all(map(torch.equal, got, value_and_gradient(ops.norm_relu, x, grad)))
