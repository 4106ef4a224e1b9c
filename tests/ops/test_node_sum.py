"""node_sum: value and gradients against torch's batch norm in float64, in every shape."""

from collections.abc import Callable, Sequence

import oracles
import pytest
import torch
from torch import Tensor

from bdp_ext import ops
from bdp_ext.ops import libraries

SHAPES = [
    (8, 16, 8, 8),
    (4, 32, 6, 6),
    (2, 64, 5, 7),
    (8, 4, 16, 16),
    (3, 8, 9, 5),
    (5, 17, 3, 3),  # a tail, and a period of 17 steps
    (2, 24, 11, 1),
    (3, 1, 7, 7),
    (1, 300, 2, 2),  # less than a period
]
PATTERNS = {
    "one": [True],
    "plain": [False],
    "darts": [True, True, False] * 3,
    "many": [True] * 25,
}
HALF = [torch.float16, torch.bfloat16]
HALF_SHAPES = [(8, 16, 8, 8), (5, 17, 3, 3), (1, 300, 2, 2)]
CASES = [(shape, "darts") for shape in SHAPES]
CASES += [(shape, name) for shape in SHAPES[5:7] for name in ("one", "plain", "many")]


def image(*shape: int, seed: int = 0, spread: float = 1.0, mean: float = 0.3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator) * spread + mean
    return x.contiguous(memory_format=torch.channels_last)


def node(shape: Sequence[int], normed: Sequence[bool]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Inputs on several scales, their weights, and a gradient for the output."""
    inputs = [
        image(*shape, seed=k, spread=0.5 + k, mean=k - 2.0).requires_grad_()
        for k in range(len(normed))
    ]
    weight = torch.linspace(-0.5, 1.0, len(normed)).requires_grad_()
    return inputs, weight, image(*shape, seed=99, mean=0.0)


def in_type(
    dtype: torch.dtype, inputs: Sequence[Tensor], device: str = "cpu"
) -> tuple[list[Tensor], list[Tensor]]:
    """Leaves in a dtype, and the same numbers in float64: what an oracle of them rounds nothing."""
    rounded = [x.detach().to(device, dtype) for x in inputs]
    wide = [x.to("cpu", torch.float64, copy=True).requires_grad_() for x in rounded]
    return [x.requires_grad_() for x in rounded], wide


def tolerance(dtype: torch.dtype, implementation: str = "") -> float:
    """Of `worst`: 5e-6 for sums in float32, and in a shorter type half a unit in the last place for
    the rounding of what is written. Triton's interpreter cuts a bfloat16 off: a whole one."""
    if dtype == torch.float32:
        return 5e-6
    cut = implementation == "triton" and dtype == torch.bfloat16
    return 5e-6 + torch.finfo(dtype).eps / (1 if cut else 2)


def worst(got: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest error, in units of the largest number of its tensor."""
    errors = [
        (a.double() - b.double()).abs().max() / b.abs().max().clamp(min=1e-6)
        for a, b in zip(got, expected, strict=True)
    ]
    return float(torch.stack(errors).detach().max())


def value_and_gradients(
    function: Callable[[list[Tensor], Tensor], Tensor],
    inputs: list[Tensor],
    weight: Tensor,
    grad: Tensor,
) -> list[Tensor]:
    y = function(inputs, weight)
    return [y, *torch.autograd.grad(y, [*inputs, weight], grad.to(y.dtype))]


@pytest.mark.parametrize(("shape", "pattern"), CASES, ids=str)
def test_matches_float64(implementation: str, shape: tuple[int, ...], pattern: str) -> None:
    check(shape, PATTERNS[pattern])


def test_many_slices(implementation: str) -> None:
    check((65, 16, 32, 32), [True, True, False])


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("pattern", ["darts", "many"])
@pytest.mark.parametrize("shape", HALF_SHAPES, ids=str)
def test_half_precision(
    implementation: str, shape: tuple[int, ...], pattern: str, dtype: torch.dtype
) -> None:
    check(shape, PATTERNS[pattern], dtype, implementation)


def check(
    shape: Sequence[int],
    normed: Sequence[bool],
    dtype: torch.dtype = torch.float32,
    implementation: str = "",
    device: str = "cpu",
) -> None:
    inputs, weight, grad = node(shape, normed)
    narrow, wide = in_type(dtype, [*inputs, grad], device)
    on_device = weight.detach().to(device).requires_grad_()
    got = value_and_gradients(
        lambda x, w: ops.node_sum(x, w, normed), narrow[:-1], on_device, narrow[-1].detach()
    )
    expected = value_and_gradients(
        lambda x, w: oracles.node_sum(x, w, normed), wide[:-1], weight, wide[-1].detach()
    )
    assert all(x.dtype == dtype for x in got[:-1])
    assert got[-1].dtype == torch.float32
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    got = [x.cpu() for x in got]
    assert worst(got[:-1], expected[:-1]) <= tolerance(dtype, implementation)
    assert worst(got[-1:], expected[-1:]) <= 5e-6


@pytest.mark.parametrize("first", [0.0, 1e4])
@pytest.mark.parametrize("mean", [0.0, 30.0, -1000.0])
def test_moments_do_not_cancel(implementation: str, mean: float, first: float) -> None:
    """Channels far from 0, whose first pixels lie far from the others on top of it."""
    x = image(16, 16, 16, 16, mean=mean)
    x[0] += first
    expected = oracles.node_sum([x], torch.ones(1), [True])
    assert worst([ops.node_sum([x], torch.ones(1), [True])], [expected]) <= 1e-6 * (1 + abs(mean))


def test_a_constant_channel_gives_zero(implementation: str) -> None:
    x = image(4, 6, 5, 5)
    x[:, 2] = 7.3
    y = ops.node_sum([x], torch.ones(1), [True])
    assert float(y[:, 2].abs().max()) <= 1e-3  # torch's too: rounding of the mean, times 316
    assert y.isfinite().all()


@pytest.mark.parametrize("need_weight", [False, True])
@pytest.mark.parametrize("need", [[True, False, False, True], [False, False, True, False]])
def test_only_wanted_gradients(implementation: str, need: list[bool], need_weight: bool) -> None:
    """Those there are equal those of a call where all were wanted."""
    normed = [True, True, False, False]
    inputs, weight, grad = node((4, 8, 6, 6), normed)
    y = ops.node_sum(inputs, weight, normed)
    *of_inputs, of_weight = torch.autograd.grad(y, [*inputs, weight], grad)
    some = [x.detach().requires_grad_(wanted) for x, wanted in zip(inputs, need, strict=True)]
    w = weight.detach().requires_grad_(need_weight)
    ops.node_sum(some, w, normed).backward(grad)
    for x, wanted, expected in zip(some, need, of_inputs, strict=True):
        assert torch.equal(x.grad, expected) if wanted else x.grad is None
    assert torch.equal(w.grad, of_weight) if need_weight else w.grad is None


def test_inputs_in_any_layout(implementation: str) -> None:
    normed = [True, False, True]
    inputs, weight, grad = node((4, 8, 6, 6), normed)
    expected = value_and_gradients(lambda x, w: ops.node_sum(x, w, normed), inputs, weight, grad)
    other = [
        inputs[0].detach().contiguous().requires_grad_(),
        torch.cat([inputs[1], inputs[1]], 1).detach()[:, :8].requires_grad_(),
        inputs[2].detach().transpose(2, 3).contiguous().transpose(2, 3).requires_grad_(),
    ]
    thin = torch.stack([weight, weight], 1).detach()[:, 0].requires_grad_()
    one = torch.cat([grad, grad], 1)[:, :8]
    got = value_and_gradients(lambda x, w: ops.node_sum(x, w, normed), other, thin, one)
    if implementation == "reference":  # torch's sums depend on the layout
        assert worst(got, expected) <= 1e-6
    else:
        assert all(map(torch.equal, got, expected))


def test_same_result_with_any_number_of_threads() -> None:
    normed = [True, True, False]
    results = []
    before = torch.get_num_threads()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        case = node((33, 16, 16, 16), normed)
        results.append(value_and_gradients(lambda x, w: ops.node_sum(x, w, normed), *case))
    torch.set_num_threads(before)
    assert all(map(torch.equal, results[0], results[1]))
    assert all(map(torch.equal, results[0], results[2]))


def test_leaves_its_inputs_alone(implementation: str) -> None:
    inputs, weight, grad = node((4, 8, 6, 6), [True, False])
    before = [x.detach().clone() for x in (*inputs, weight, grad)]
    value_and_gradients(lambda x, w: ops.node_sum(x, w, [True, False]), inputs, weight, grad)
    assert all(map(torch.equal, (*inputs, weight, grad), before))


def test_gradcheck() -> None:
    """The formulas, in float64."""
    normed = [True, False, True]
    inputs, weight, _ = node((3, 2, 2, 3), normed)
    wide = [x.detach().double().requires_grad_() for x in (*inputs, weight)]

    def function(*arguments: Tensor) -> Tensor:
        return ops.node_sum(arguments[:-1], arguments[-1], normed)

    assert torch.autograd.gradcheck(function, wide)
    assert torch.autograd.gradgradcheck(function, wide)


@pytest.mark.parametrize("need_weight", [False, True])
def test_second_derivative(implementation: str, need_weight: bool) -> None:
    """What a second-order search asks for: the gradient of a step's gradient."""
    normed = [True, False, True]
    inputs, weight, grad = node((3, 8, 4, 4), normed)
    weight.requires_grad_(need_weight)
    direction = [image(3, 8, 4, 4, seed=50 + k) for k in range(3)]
    leaves = [*inputs, weight] if need_weight else inputs

    def second(function: Callable[[list[Tensor], Tensor], Tensor]) -> list[Tensor]:
        y = function(inputs, weight).tanh()
        g = grad.to(y.dtype).requires_grad_()
        first = torch.autograd.grad(y, leaves, g, create_graph=True)
        along = sum((a * b).sum() for a, b in zip(first, [*direction, 0.3], strict=False))
        return list(torch.autograd.grad(along, [g, *leaves]))

    got = second(lambda x, w: ops.node_sum(x, w, normed))
    expected = second(lambda x, w: oracles.node_sum(x, w, normed))
    assert worst(got, expected) <= 1e-5


@pytest.mark.parametrize("dtype", HALF)
def test_second_derivative_in_half_precision(implementation: str, dtype: torch.dtype) -> None:
    """In plain torch from half's own numbers: off by the rounding of the first gradient's and of
    its own results."""
    normed = [True, False, True]
    inputs, weight, grad = node((3, 8, 4, 4), normed)
    narrow, wide = in_type(dtype, [*inputs, grad])
    directions = in_type(dtype, [image(3, 8, 4, 4, seed=50 + k) for k in range(3)])

    def second(
        function: Callable[[list[Tensor], Tensor], Tensor], leaves: list[Tensor], along: Sequence
    ) -> list[Tensor]:
        *x, g = leaves
        first = torch.autograd.grad(function(x, weight), [*x, weight], g, create_graph=True)
        total = sum((a * b.detach()).sum() for a, b in zip(first, along, strict=True))
        return list(torch.autograd.grad(total, [*x, weight, g]))

    number = torch.tensor(0.3)
    got = second(lambda x, w: ops.node_sum(x, w, normed), narrow, [*directions[0], number])
    expected = second(lambda x, w: oracles.node_sum(x, w, normed), wide, [*directions[1], number])
    assert [x.dtype for x in got] == [dtype] * 3 + [torch.float32, dtype]
    assert worst(got, expected) <= tolerance(dtype, implementation)


def test_float64() -> None:
    normed = [True, False]
    inputs, weight, grad = node((4, 8, 6, 6), normed)
    wide = [x.detach().double().requires_grad_() for x in inputs]
    got = value_and_gradients(lambda x, w: ops.node_sum(x, w, normed), wide, weight, grad.double())
    expected = value_and_gradients(
        lambda x, w: oracles.node_sum(x, w, normed), wide, weight, grad.double()
    )
    assert got[0].dtype == got[1].dtype == torch.float64
    assert worst(got[:-1], expected[:-1]) <= 1e-14
    assert worst(got[-1:], expected[-1:]) <= 6e-8  # a float32 weight has a float32 gradient


@pytest.mark.skipif(not libraries.loaded("cpu"), reason="the CPU library is not there")
def test_the_library_says_what_it_has_no_code_for() -> None:
    """Whoever calls the operation itself, past the documented function."""
    with pytest.raises(RuntimeError, match="inputs must be float32, float16 or bfloat16"):
        torch.ops.bdp_ext.node_sum([X.double()], torch.ones(1), [True], 1e-5)
    with pytest.raises(RuntimeError, match="four dimensions and one dtype"):
        torch.ops.bdp_ext.norm_relu_backward(X, X.half(), torch.ones(3), torch.ones(3), 1e-5)


X = torch.ones(2, 3, 4, 4)


@pytest.mark.parametrize(
    ("inputs", "weight", "normed", "message"),
    [
        ([], torch.ones(0), [], "at least one input"),
        ([X], torch.ones(1), [True, False], "got 1 inputs and 2 flags"),
        ([X[0]], torch.ones(1), [True], r"inputs\[0\] must be a 4-d"),
        ([X.long()], torch.ones(1), [True], "got .* int64"),
        ([X, X.double()], torch.ones(2), [True, True], r"inputs\[1\] must be .* float32"),
        ([X, X[:1]], torch.ones(2), [True, True], "the same shape, got"),
        ([X[:0]], torch.ones(1), [True], "must not be empty"),
        ([X], torch.ones(2), [True], "weight must have one entry per input"),
        ([X], torch.ones(1, dtype=torch.float64), [True], "weight must be a 1-d float32"),
        (
            [X.half()],
            torch.ones(1).half(),
            [True],
            "weight must be a 1-d float32 tensor .* float16",
        ),
        ([X.half(), X], torch.ones(2), [True, True], r"inputs\[1\] must be .* float16 .* float32"),
        ([X], torch.ones(1, device="meta"), [True], "on meta"),
    ],
)
def test_rejects(
    implementation: str, inputs: list[Tensor], weight: Tensor, normed: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=f"node_sum: .*{message}"):
        ops.node_sum(inputs, weight, normed)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # opcheck's own
@pytest.mark.parametrize("dtype", [torch.float32, *HALF])
def test_is_a_good_citizen_of_torch(dtype: torch.dtype) -> None:
    normed = [True, False, True]
    inputs, weight, grad = node((4, 8, 6, 6), normed)
    inputs, grad = in_type(dtype, inputs)[0], grad.to(dtype)
    names = torch.ops.bdp_ext
    torch.library.opcheck(names.node_sum.default, (inputs, weight, normed, 1e-5))
    _, mean, rstd = names.node_sum(inputs, weight, normed, 1e-5)
    for need_inputs, need_weight in (([True, False, True], True), ([True, True, True], False)):
        arguments = (grad, inputs, weight, normed, mean, rstd, 1e-5, need_inputs, need_weight)
        torch.library.opcheck(names.node_sum_backward.default, arguments)


def test_compiles_in_one_graph() -> None:
    normed = [True, False, True]
    inputs, weight, grad = node((4, 8, 6, 6), normed)
    expected = value_and_gradients(lambda x, w: ops.node_sum(x, w, normed), inputs, weight, grad)
    compiled = torch.compile(
        lambda x, w: ops.node_sum(x, w, normed), fullgraph=True, backend="aot_eager"
    )
    assert all(map(torch.equal, value_and_gradients(compiled, inputs, weight, grad), expected))
