"""pool3x3 and its gradient: every size, ties, NaN and infinities go where they should. On a CPU
torch's own pools compute, elsewhere the operation with a gradient of ours: it runs here, too."""

from collections.abc import Callable

import oracles
import pytest
import torch
from torch import Tensor

from bdp_ext import ops

SIZES = [(1, 1), (1, 2), (2, 1), (2, 2), (3, 3), (4, 5), (1, 40), (9, 17)]
INF, NAN = float("inf"), float("nan")


def sprinkle(x: Tensor, *values: float) -> Tensor:
    """Half of x replaced by these."""
    chance = torch.rand(x.shape, generator=torch.Generator().manual_seed(1)) * 2 * len(values)
    for i, value in enumerate(values):
        x = x.masked_fill((chance >= i) & (chance < i + 1), value)
    return x


INPUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "normal": lambda x: x,
    "ties": lambda x: (1.5 * x).round().relu(),  # after a ReLU: mostly zeros
    "constant": torch.zeros_like,
    "signed zeros": lambda x: 0.0 * x,
    "infinite": lambda x: sprinkle(x, -INF, INF),
    "nothing": lambda x: torch.full_like(x, -INF),
    "nan": lambda x: sprinkle(x, NAN),
    "all": lambda x: sprinkle(x.round(), NAN, -INF, INF),
}


def case(
    batch: int,
    channels: int,
    size: tuple[int, int],
    stride: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of averages and maxima, and input, in channels_last. The maxima's gradients are
    integers: no sum of them is rounded."""
    generator = torch.Generator().manual_seed(channels + 7 * size[0] + size[1])
    outputs = tuple((n - 1) // stride + 1 for n in size)
    of_average, of_maximum, x = (
        torch.randn(batch, channels, *n, generator=generator, dtype=torch.float64).to(
            dtype, memory_format=torch.channels_last
        )
        for n in (outputs, outputs, size)
    )
    return of_average, (3 * of_maximum).round(), x


def gradients(
    of_average: Tensor, of_maximum: Tensor, input: Tensor, stride: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of the averages, of the maxima and of both, in float64."""
    input = input.double().requires_grad_()
    averages, maxima = oracles.pool3x3(input, stride)
    (average,) = torch.autograd.grad(averages, input, of_average.double())
    (maximum,) = torch.autograd.grad(maxima, input, of_maximum.double())
    return average, maximum, average + maximum


def close(got: Tensor, wanted: Tensor, scale: Tensor) -> None:
    """Within 1e-6 of what the numbers that are added weigh; the same infinities and NaN."""
    got, finite = got.double(), wanted.isfinite()
    assert oracles.equal(got.masked_fill(finite, 0.0), wanted.masked_fill(finite, 0.0))
    assert ((got - wanted).abs() <= 1e-6 * scale)[finite].all()


def operation(
    input: Tensor, stride: int, *, average: bool = True, maximum: bool = True
) -> tuple[Tensor, Tensor]:
    """Not through the door: with the gradient of ours."""
    outputs: tuple[Tensor, Tensor] = torch.ops.bdp_ext.pool3x3(input, stride, average, maximum)
    return outputs


BOTH = pytest.mark.parametrize("pool", [ops.pool3x3, operation])


def check(of_average: Tensor, of_maximum: Tensor, input: Tensor, stride: int) -> None:
    """All that is asked for in one pass, and each alone."""
    scale = oracles.pool3x3(input.abs(), stride)[0]
    wanted = oracles.pool3x3(input, stride)
    for average, maximum in ((True, True), (True, False), (False, True)):
        averages, maxima = ops.pool3x3(input, stride, average=average, maximum=maximum)
        for values, asked in ((averages, average), (maxima, maximum)):
            assert values.is_contiguous(memory_format=torch.channels_last) or not asked
            assert values.shape == (wanted[0].shape if asked else (0,))
        if average:
            close(averages, wanted[0], scale)
        if maximum:
            assert oracles.equal(maxima.double(), wanted[1])
    average, maximum, both = gradients(of_average, of_maximum, input, stride)
    grad_scale = sum(gradients(of_average.abs(), of_maximum.abs(), input, stride)[:2])
    close(ops.pool3x3_backward(of_average, None, input, stride), average, grad_scale)
    got = ops.pool3x3_backward(of_average, of_maximum, input, stride)
    assert got.is_contiguous(memory_format=torch.channels_last)
    close(got, both, grad_scale)
    assert torch.equal(ops.pool3x3_backward(None, of_maximum, input, stride).double(), maximum)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", INPUTS)
def test_matches_float64_in_every_size(kind: str, stride: int) -> None:
    for size in SIZES:
        *grads, input = case(2, 20, size, stride)
        check(*grads, INPUTS[kind](input), stride)


def test_gradients_may_be_infinite() -> None:
    """Windows that do not reach a pixel do not, either, as 0 * inf."""
    for stride in (1, 2):
        of_average, of_maximum, input = case(2, 20, (9, 8), stride)
        of_average, of_maximum = (sprinkle(x, INF, NAN) for x in (of_average, of_maximum))
        average, maximum, _ = gradients(of_average, of_maximum, input, stride)
        got = ops.pool3x3_backward(of_average, None, input, stride)
        torch.testing.assert_close(got.double(), average, rtol=1e-6, atol=1e-6, equal_nan=True)
        got = ops.pool3x3_backward(None, of_maximum, input, stride)
        assert oracles.equal(got.double(), maximum)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(dtype: torch.dtype, stride: int) -> None:
    of_average, of_maximum, input = case(2, 8, (8, 9), stride, dtype)
    averages, maxima = ops.pool3x3(input, stride)
    wanted = oracles.pool3x3(input, stride)
    tolerance = 16 * torch.finfo(dtype).eps
    torch.testing.assert_close(averages.double(), wanted[0], rtol=tolerance, atol=tolerance)
    assert torch.equal(maxima.double(), wanted[1])
    assert averages.dtype == maxima.dtype == dtype
    average, maximum, both = gradients(of_average, of_maximum, input, stride)
    for grads, exact in (
        ((of_average, None), average),
        ((None, of_maximum), maximum),
        ((of_average, of_maximum), both),
    ):
        got = ops.pool3x3_backward(*grads, input, stride)
        assert got.dtype == dtype
        assert got.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(got.double(), exact, rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("stride", [1, 2])
def test_any_layout_and_nothing_written(stride: int) -> None:
    *grads, input = case(2, 16, (8, 9), stride)
    outputs = ops.pool3x3(input, stride)
    gradient = ops.pool3x3_backward(*grads, input, stride)
    wide = torch.randn(2, 32, 8, 9).to(memory_format=torch.channels_last)
    wide[:, ::2] = input
    others = [grads[0].contiguous(), grads[1].flip(3).contiguous().flip(3)]
    for image in (input.contiguous(), wide[:, ::2]):
        before = [x.clone() for x in (image, *others)]
        for again, first in zip(ops.pool3x3(image, stride), outputs, strict=True):
            torch.testing.assert_close(again, first, rtol=1e-6, atol=1e-6)
            assert again.is_contiguous(memory_format=torch.channels_last)
        again = ops.pool3x3_backward(*others, image, stride)
        torch.testing.assert_close(again, gradient, rtol=1e-6, atol=1e-5)
        assert all(map(torch.equal, before, (image, *others)))


def test_no_images() -> None:
    *grads, input = case(0, 16, (8, 8), 2)
    assert [x.shape for x in ops.pool3x3(input, 2)] == [(0, 16, 4, 4)] * 2
    assert ops.pool3x3_backward(*grads, input, 2).shape == input.shape


@BOTH
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("used", ["both", "average", "maximum"])
def test_autograd_is_the_oracles(
    used: str, stride: int, pool: Callable[..., tuple[Tensor, Tensor]]
) -> None:
    """First, second and third derivatives, in float32."""
    *grads, input = case(2, 8, (7, 6), stride)
    which = {"both": slice(0, 2), "average": slice(0, 1), "maximum": slice(1, 2)}[used]

    def derivatives(pool: Callable[..., tuple[Tensor, Tensor]], dtype: torch.dtype) -> list[Tensor]:
        x, *g = (t.detach().to(dtype).requires_grad_() for t in (input, *grads[which]))
        outputs = pool(x, stride)[which]
        (first,) = torch.autograd.grad(outputs, x, g, create_graph=True)
        second = torch.autograd.grad(first.pow(3).sum(), g, create_graph=True)
        third = torch.autograd.grad(sum(t.pow(2).sum() for t in second), g)
        return [*outputs, first, *second, *third]

    got = derivatives(pool, torch.float32)
    wanted = derivatives(oracles.pool3x3, torch.float64)
    for value, exact in zip(got, wanted, strict=True):
        assert (value - exact).norm() <= 2e-6 * exact.norm()


@BOTH
@pytest.mark.parametrize("stride", [1, 2])
def test_gradcheck(stride: int, pool: Callable[..., tuple[Tensor, Tensor]]) -> None:
    numbers = torch.randperm(2 * 3 * 6 * 5, generator=torch.Generator().manual_seed(0)).double()
    input = numbers.view(2, 3, 6, 5).requires_grad_()  # no ties within the difference's reach
    for average, maximum in ((True, True), (True, False), (False, True)):

        def wanted_of(
            input: Tensor, wanted: tuple[bool, bool] = (average, maximum)
        ) -> list[Tensor]:
            outputs = pool(input, stride, average=wanted[0], maximum=wanted[1])
            return [x for x, asked in zip(outputs, wanted, strict=True) if asked]

        assert torch.autograd.gradcheck(wanted_of, input)
        assert torch.autograd.gradgradcheck(wanted_of, input)


def test_the_average_keeps_no_input() -> None:
    *_, input = case(2, 8, (7, 6), 1)
    kept: list[int] = []

    def note(x: Tensor) -> Tensor:
        kept.append(x.untyped_storage().nbytes())
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, note):
        operation(input.requires_grad_(), 1, maximum=False)
        assert max(kept) < 16
        operation(input, 1)
        assert max(kept) == input.untyped_storage().nbytes()


@pytest.mark.parametrize(
    ("input", "stride", "message"),
    [
        (torch.zeros(3, 4, 4), 1, "input must be a 4-d"),
        (torch.zeros(1, 3, 4, 4).int(), 1, "input must be a 4-d"),
        (torch.zeros(1, 3, 4, 4), 0, "stride must be 1 or 2"),
        (torch.zeros(1, 3, 4, 4), 3, "stride must be 1 or 2"),
        (torch.zeros(1, 3, 0, 4), 1, "input must have channels and pixels"),
        (torch.zeros(1, 0, 4, 4), 1, "input must have channels and pixels"),
    ],
)
def test_rejects(input: Tensor, stride: int, message: str) -> None:
    with pytest.raises(ValueError, match=f"pool3x3: .*{message}"):
        ops.pool3x3(input, stride)
    with pytest.raises(ValueError, match=f"pool3x3_backward: .*{message}"):
        ops.pool3x3_backward(input, input, input, stride)


def test_rejects_other_gradients() -> None:
    *grads, input = case(2, 3, (6, 5), 1)
    with pytest.raises(ValueError, match=r"grad_average must be \[2, 3, 3, 3\], as the output"):
        ops.pool3x3_backward(grads[0], None, input, 2)
    with pytest.raises(ValueError, match="grad_maximum must be a 4-d float32"):
        ops.pool3x3_backward(grads[0], grads[1].double(), input)
    with pytest.raises(ValueError, match="give grad_average, grad_maximum or both"):
        ops.pool3x3_backward(None, None, input)


def test_the_operation_checks_for_itself() -> None:
    """Who calls it without its door gets an error."""
    *grads, input = case(2, 3, (6, 5), 1)
    operations = torch.ops.bdp_ext
    for arguments in ((input[0], 1), (input, 3), (input[:, :, :0], 1)):
        with pytest.raises((RuntimeError, ValueError)):
            operations.pool3x3(*arguments, True, True)
        with pytest.raises((RuntimeError, ValueError)):
            operations.pool3x3_backward(*grads, *arguments)
    for other in ((None, None), (grads[0][:1], None), (None, grads[1].double())):
        with pytest.raises((RuntimeError, ValueError)):
            operations.pool3x3_backward(*other, input, 1)


# opcheck itself looks at the gradients of its copies.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_a_good_citizen_of_torch(dtype: torch.dtype) -> None:
    operations = torch.ops.bdp_ext
    average, maximum, input = (x.requires_grad_() for x in case(2, 5, (6, 5), 2, dtype))
    for wanted in ((True, True), (True, False), (False, True)):
        torch.library.opcheck(operations.pool3x3.default, (input, 2, *wanted))
    for grads in ((average, maximum), (average, None), (None, maximum)):
        torch.library.opcheck(operations.pool3x3_backward.default, (*grads, input, 2))


@pytest.mark.parametrize("stride", [1, 2])
def test_compiles_with_its_gradients(stride: int) -> None:
    *grads, input = case(2, 16, (7, 6), stride)
    input.requires_grad_()

    def pool(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alone, _ = ops.pool3x3(x, stride, maximum=False)
        return *ops.pool3x3(x, stride), alone

    outputs = pool(input)
    again = torch.compile(pool, fullgraph=True, backend="aot_eager")(input)
    assert all(map(torch.equal, outputs, again))
    (wanted,) = torch.autograd.grad(outputs, input, [*grads, grads[0]])
    (got,) = torch.autograd.grad(again, input, [*grads, grads[0]])
    assert torch.equal(got, wanted)
