"""conv3x3, depthwise_conv2d and their gradients: as accurate as is promised, for every shape and
border; the modules that choose between them and torch's."""

from itertools import product
from typing import NamedTuple

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bdp_ext
from bdp_ext import ops
from bdp_ext.spaces.conv3x3 import Conv3x3
from bdp_ext.spaces.depthwise import DepthwiseConv2d

GEOMETRIES = list(product((3, 5), (1, 2), (1, 2)))  # kernel, stride, dilation
BOUND = {"conv3x3": 2e-6, "depthwise_conv2d": 1e-6}  # of the norm; measured are 5e-7 to 9e-7
NEEDS = [(True, True), (True, False), (False, True)]

needs_library = pytest.mark.skipif(
    not bdp_ext.build_info()["libraries"]["cpu"]["loaded"], reason="no compiled library"
)


class Case(NamedTuple):
    """A convolution, the gradient of its output, and its arguments; images in channels_last."""

    op: str
    grad: Tensor
    input: Tensor
    weight: Tensor
    geometry: tuple[int, ...] = ()

    def values(self) -> tuple[Tensor, ...]:
        """Output and both gradients."""
        output = getattr(ops, self.op)(self.input, self.weight, *self.geometry)
        return output, *self.gradients()

    def gradients(self, **needs: bool) -> tuple[Tensor, Tensor]:
        backward = getattr(ops, f"{self.op}_backward")
        gradients: tuple[Tensor, Tensor] = backward(*self[1:4], *self.geometry, **needs)
        return gradients

    def exact(self) -> tuple[Tensor, ...]:
        """The same in float64."""
        input, weight = (x.double().requires_grad_() for x in (self.input, self.weight))
        output = getattr(oracles, self.op)(input, weight, *self.geometry)
        return output.detach(), *torch.autograd.grad(output, (input, weight), self.grad.double())


def dense(
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> Case:
    inputs, outputs = channels
    generator = torch.Generator().manual_seed(inputs + outputs + size[1])
    grad, input = (image(batch, c, size, generator, dtype) for c in (outputs, inputs))
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator, dtype=dtype)
    return Case("conv3x3", grad, input, weight)


def depthwise(
    batch: int,
    channels: int,
    size: tuple[int, int],
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Case:
    generator = torch.Generator().manual_seed(channels + size[1])
    padding = dilation * (kernel // 2) if padding is None else padding
    rest = 2 * padding - dilation * (kernel - 1) - 1
    outputs = ((size[0] + rest) // stride + 1, (size[1] + rest) // stride + 1)
    grad, input = (image(batch, channels, n, generator, dtype) for n in (outputs, size))
    weight = torch.randn(channels, 1, kernel, kernel, generator=generator, dtype=dtype)
    return Case("depthwise_conv2d", grad, input, weight, (stride, padding, dilation))


def image(
    batch: int,
    channels: int,
    size: tuple[int, int],
    generator: torch.Generator,
    dtype: torch.dtype,
) -> Tensor:
    x = torch.randn(batch, channels, *size, generator=generator, dtype=dtype)
    return x.to(memory_format=torch.channels_last)


def error(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got.double() - wanted).norm() / wanted.norm())


def check(case: Case) -> None:
    got = case.values()
    taps, pixels = case.weight[0, 0].numel(), case.grad[:, 0].numel()
    for value, wanted, terms in zip(got, case.exact(), (taps, taps, pixels), strict=True):
        if case.op == "conv3x3":
            assert error(value, wanted) <= BOUND[case.op]
        else:  # the rounding of a float32 sum of so many products of normal numbers
            tolerance = {"rtol": 1e-6, "atol": 4e-6 * terms**0.5}
            torch.testing.assert_close(value.double(), wanted, **tolerance)
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in got[:2])
    assert got[2].is_contiguous()
    only, none = case.gradients(need_weight=False)
    assert torch.equal(only, got[1])
    assert none.shape == (0,)
    none, only = case.gradients(need_input=False)
    assert torch.equal(only, got[2])
    assert none.shape == (0,)


# ---- as accurate as is promised ----


@pytest.mark.parametrize("width", range(1, 10))
def test_conv3x3_in_every_size(implementation: str, width: int) -> None:
    for height in (1, 3, 4, 6, 9):
        check(dense(2, (16, 16), (height, width)))


@pytest.mark.parametrize(
    "channels",
    [(16, 16), (16, 32), (32, 48), (48, 64), (64, 16), (1, 1), (3, 16), (16, 24)],
    ids=str,
)
def test_conv3x3_with_any_channels(implementation: str, channels: tuple[int, int]) -> None:
    for batch, size in ((1, (1, 1)), (3, (10, 7))):
        check(dense(batch, channels, size))


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 16), (64, 8), (128, 8)])
@pytest.mark.parametrize("batch", [1, 16])
def test_conv3x3_in_the_supernets_sizes(
    implementation: str, channels: int, size: int, batch: int
) -> None:
    check(dense(batch, (channels, channels), (size, size)))


def test_every_pixel_of_conv3x3(implementation: str) -> None:
    """A single one off, at a border say, would not show in a norm."""
    case = dense(3, (16, 32), (9, 14))
    for value, exact in zip(case.values(), case.exact(), strict=True):
        assert (value.double() - exact).abs().max() <= 4e-6 * exact.abs().max()


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_depthwise_in_any_size(implementation: str, geometry: tuple[int, int, int]) -> None:
    for size in ((1, 1), (2, 3), (5, 5), (1, 40), (9, 17), (32, 31)):
        check(depthwise(2, 20, size, *geometry))
    for channels in (1, 16, 20, 33):
        check(depthwise(3, channels, (10, 9), *geometry))
    # Padding other than a kernel's half moves the strips of the input gradient.
    for padding, size in product((0, 3, 6), ((9, 9), (21, 38))):
        check(depthwise(2, 16, size, *geometry, padding))


@pytest.mark.parametrize(
    "geometry", [(1, 1, 1), (2, 1, 1), (4, 2, 1), (7, 1, 1), (3, 3, 1), (3, 1, 3)], ids=str
)
def test_torch_computes_what_there_is_no_kernel_for(
    implementation: str, geometry: tuple[int, int, int]
) -> None:
    check(depthwise(2, 8, (11, 12), *geometry))


ONES = {
    "conv3x3": dense(64, (16, 16), (32, 32)),
    "depthwise 3": depthwise(64, 16, (32, 32)),
    "depthwise 5": depthwise(64, 16, (32, 32), 5, 2, 2),
}


@pytest.mark.parametrize("case", ONES.values(), ids=ONES.keys())
def test_many_pixels_do_not_add_up_their_rounding(case: Case) -> None:
    """The weight gradient of a batch whose products all have one sign, beside torch's."""
    case = case._replace(grad=case.grad.abs(), input=case.input.abs())
    wanted = case.exact()[2]
    _, got = case.gradients(need_input=False)
    with bdp_ext.backend("reference"):
        _, torchs = case.gradients(need_input=False)
    if case.op == "conv3x3":
        assert error(got, wanted) <= BOUND[case.op]
        assert error(got, wanted) <= max(error(torchs, wanted), 1e-6)
    else:
        assert oracles.relative_error(got, wanted) <= 1e-6
        assert oracles.relative_error(got, wanted) <= oracles.relative_error(torchs, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(implementation: str, dtype: torch.dtype) -> None:
    for case in (dense(2, (16, 16), (8, 9), dtype), depthwise(2, 8, (8, 9), 3, 2, dtype=dtype)):
        for value, wanted in zip(case.values(), case.exact(), strict=True):
            assert value.dtype == dtype
            assert error(value, wanted) <= 2 * torch.finfo(dtype).eps


# ---- whatever comes in ----


@pytest.mark.parametrize(
    "case", [dense(2, (16, 32), (8, 9)), depthwise(2, 16, (8, 9)), depthwise(2, 16, (8, 9), 5)]
)
def test_any_layout_and_nothing_written(implementation: str, case: Case) -> None:
    _, grad, input, weight, _ = case
    results = case.values()
    wide = torch.randn(2, 32, 8, 9).to(memory_format=torch.channels_last)
    wide[:, ::2] = input
    last = weight.to(memory_format=torch.channels_last)
    turned = weight.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
    thick = torch.stack([weight, weight], -1)[..., 0]
    for tensors in (
        (grad.contiguous(), input.contiguous(), last),
        (grad, wide[:, ::2], turned),
        (grad, input, thick),
    ):
        before = [x.clone() for x in tensors]
        got = Case(case.op, *tensors, case.geometry).values()
        for again, first in zip(got, results, strict=True):
            assert error(again, first.double()) <= 1e-6
        if case.op == "conv3x3":
            assert got[2].stride() == torch.empty_like(tensors[2]).stride()
        assert all(map(torch.equal, before, tensors))


@pytest.mark.parametrize(
    "case", [dense(0, (16, 16), (8, 8)), dense(0, (3, 5), (8, 8)), depthwise(0, 16, (8, 8))]
)
def test_no_images(implementation: str, case: Case) -> None:
    output, grad_input, grad_weight = case.values()
    assert output.shape == case.grad.shape
    assert grad_input.shape == case.input.shape
    assert torch.equal(grad_weight, torch.zeros_like(case.weight))


def test_nan_stays_where_it_belongs() -> None:
    """A tile is computed together with what others left in the memory behind it."""
    case = dense(1, (16, 16), (4, 4))
    wanted = ops.conv3x3(case.input, case.weight)
    ops.conv3x3(torch.full((64, 16, 32, 32), float("nan")), case.weight)
    assert torch.equal(ops.conv3x3(case.input, case.weight), wanted)
    assert all(not x.isnan().any() for x in case.gradients())


SHAPES = [(64, 16, (32, 32)), (3, 48, (9, 9)), (64, 64, (8, 8))]


@needs_library
@pytest.mark.parametrize(
    "cases",
    [
        [dense(batch, (channels, channels), size) for batch, channels, size in SHAPES],
        [depthwise(*shape) for shape in (*SHAPES, (3, 20, (9, 9)))],
        [depthwise(*shape, 5, 2, 2) for shape in (*SHAPES, (3, 20, (9, 9)))],
    ],
    ids=["conv3x3", "depthwise 3", "depthwise 5"],
)
def test_does_not_depend_on_the_threads(cases: list[Case]) -> None:
    before = torch.get_num_threads()
    for case in cases:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(case.values())
        torch.set_num_threads(before)
        assert all(map(torch.equal, results[0], results[1]))
        assert all(map(torch.equal, results[0], results[2]))


X, W, ONE = torch.zeros(1, 3, 4, 4), torch.zeros(3, 3, 3, 3), torch.zeros(3, 1, 3, 3)


@pytest.mark.parametrize(
    ("op", "input", "weight", "options", "message"),
    [
        ("conv3x3", X[0], W, {}, "input must be a 4-d"),
        ("conv3x3", X, W.double(), {}, "weight must be a 4-d"),
        ("conv3x3", X, torch.zeros(3, 4, 3, 3), {}, r"weight must be \[O, 3, 3, 3\]"),
        ("conv3x3", X, torch.zeros(3, 3, 3, 5), {}, r"weight must be \[O, 3, 3, 3\]"),
        ("conv3x3", X[:, :, :0], W, {}, "must have height and width"),
        ("conv3x3", X.int(), W.int(), {}, "input must be a 4-d"),
        ("depthwise_conv2d", X[0], ONE, {}, "input must be a 4-d"),
        ("depthwise_conv2d", X, ONE.double(), {}, "weight must be a 4-d"),
        ("depthwise_conv2d", X, torch.zeros(4, 1, 3, 3), {}, r"weight must be \[3, 1, k, k\]"),
        ("depthwise_conv2d", X, torch.zeros(3, 1, 3, 5), {}, r"weight must be \[3, 1, k, k\]"),
        ("depthwise_conv2d", X, ONE, {"stride": 0}, "stride and dilation"),
        ("depthwise_conv2d", X, ONE, {"padding": -1}, "padding >= 0"),
        ("depthwise_conv2d", X, torch.zeros(3, 1, 5, 5), {"padding": 0}, "larger than the padded"),
        ("depthwise_conv2d", X.int(), ONE.int(), {}, "input must be a 4-d"),
    ],
)
def test_rejects(
    implementation: str,
    op: str,
    input: Tensor,
    weight: Tensor,
    options: dict[str, int],
    message: str,
) -> None:
    with pytest.raises(ValueError, match=f"{op}: .*{message}"):
        getattr(ops, op)(input, weight, **options)
    with pytest.raises(ValueError, match=f"{op}_backward: .*{message}"):
        getattr(ops, f"{op}_backward")(input, input, weight, **options)
    if op == "conv3x3" and input.is_floating_point():  # torch convolves integers
        with pytest.raises((ValueError, RuntimeError)):  # past the door, too
            torch.ops.bdp_ext.conv3x3(input, weight)


@pytest.mark.parametrize("case", [dense(2, (16, 32), (6, 5)), depthwise(2, 3, (6, 5))])
def test_rejects_a_gradient_of_another_shape(implementation: str, case: Case) -> None:
    shape = list(case.grad.shape)
    case = case._replace(grad=case.grad[:, 1:])
    with pytest.raises(ValueError, match=rf"grad must be \{shape}, as the output"):
        case.gradients()
    backward = getattr(torch.ops.bdp_ext, f"{case.op}_backward")
    with pytest.raises((ValueError, RuntimeError), match="grad must"):
        backward(*case[1:4], *case.geometry, True, True)


# ---- with torch's autograd, compiler and modules ----


class Calls(TorchDispatchMode):
    """Records which convolutions run, and the flags of the backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.wanted: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name()
        if name.startswith("bdp_ext") and name.endswith("_backward"):
            self.wanted.append(args[-2:])
        if "conv" in name:
            self.names.append(name.split(":")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("needs", NEEDS)
@pytest.mark.parametrize(
    "case",
    [dense(2, channels, (7, 6)) for channels in ((16, 16), (16, 32), (3, 5))]
    + [depthwise(2, 8, (7, 6), *geometry) for geometry in GEOMETRIES],
)
def test_autograd_is_the_oracles(implementation: str, case: Case, needs: tuple[bool, bool]) -> None:
    """First and second derivatives in float32, through the kernels."""

    def derivatives(convolve, grad: Tensor, *inputs: Tensor) -> list[Tensor]:
        grad, *inputs = (x.detach() for x in (grad, *inputs))
        wanted = [x.requires_grad_() for x, need in zip(inputs, needs, strict=True) if need]
        output = convolve(*inputs, *case.geometry)
        grad.requires_grad_()
        first = torch.autograd.grad(output, wanted, grad, create_graph=True)
        total = sum(x.pow(3).sum() for x in first)
        # The gradient of one operand does not depend on that operand.
        second = torch.autograd.grad(total, [grad, *inputs] if all(needs) else [grad])
        return [output, *first, *second]

    tensors = case[1:4]
    got = derivatives(getattr(ops, case.op), *tensors)
    wanted = derivatives(getattr(oracles, case.op), *(x.double() for x in tensors))
    for value, exact in zip(got, wanted, strict=True):
        assert error(value.detach(), exact.detach()) <= 2 * BOUND[case.op]


@needs_library
@pytest.mark.parametrize("needs", NEEDS)
@pytest.mark.parametrize("case", [dense(2, (16, 16), (6, 5)), depthwise(2, 4, (6, 5))])
def test_computes_only_the_gradients_that_are_needed(case: Case, needs: tuple[bool, bool]) -> None:
    input, weight = (
        x.detach().requires_grad_(need) for x, need in zip(case[2:4], needs, strict=True)
    )
    with Calls() as calls:
        getattr(ops, case.op)(input, weight, *case.geometry).sum().backward()
    assert calls.wanted == [needs]
    assert (input.grad is not None, weight.grad is not None) == needs


@pytest.mark.parametrize("case", [dense(2, (16, 16), (6, 5)), depthwise(2, 3, (6, 5))])
def test_triton_has_no_kernel(case: Case) -> None:
    try:
        with bdp_ext.backend("triton"), pytest.raises(RuntimeError, match="has no kernel for it"):
            case.values()
    except RuntimeError as error:
        pytest.skip(str(error))


# opcheck itself looks at the gradients of its copies.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    "case",
    [
        dense(2, (16, 32), (7, 6)),
        dense(2, (16, 32), (7, 6))._replace(
            weight=dense(2, (16, 32), (7, 6)).weight.to(memory_format=torch.channels_last)
        ),
        depthwise(2, 16, (7, 6), 5, 2),
    ],
)
def test_is_a_good_citizen_of_torch(case: Case) -> None:
    inputs = [x.detach().requires_grad_() for x in case[2:4]]
    operations = torch.ops.bdp_ext
    torch.library.opcheck(getattr(operations, case.op).default, (*inputs, *case.geometry))
    backward = getattr(operations, f"{case.op}_backward").default
    for needs in NEEDS:
        torch.library.opcheck(backward, (case.grad, *inputs, *case.geometry, *needs))


@pytest.mark.parametrize(
    ("module", "case"),
    [
        (Conv3x3(16, 16), dense(4, (16, 16), (8, 8))),
        (DepthwiseConv2d(16, 5, padding=4, dilation=2), depthwise(2, 16, (7, 6), 5, 1, 2)),
    ],
)
def test_compiles_with_its_gradients(module: nn.Module, case: Case) -> None:
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    inputs = (case.input.detach().requires_grad_(), module.weight)
    output, again = module(inputs[0]), compiled(inputs[0])
    assert torch.equal(output, again)
    wanted = torch.autograd.grad(output, inputs, case.grad)
    assert all(map(torch.equal, torch.autograd.grad(again, inputs, case.grad), wanted))


@pytest.mark.parametrize(
    ("kind", "arguments", "case"),
    [(Conv3x3, c, dense(4, c, (8, 8))) for c in ((16, 16), (16, 32), (3, 16))]
    + [
        (DepthwiseConv2d, (16, k, s, d * (k // 2), d), depthwise(2, 16, (8, 8), k, s, d))
        for k, s, d in GEOMETRIES
    ],
)
def test_module_is_torchs_in_all_but_time(
    kind: type[nn.Conv2d], arguments: tuple[int, ...], case: Case
) -> None:
    torch.manual_seed(0)
    ours = kind(*arguments)
    torch.manual_seed(0)
    theirs = nn.Conv2d(
        *(ours.in_channels, ours.out_channels, ours.kernel_size, ours.stride, ours.padding),
        *(ours.dilation, ours.groups, False),
    )
    assert torch.equal(ours.weight, theirs.weight)
    ours.load_state_dict(theirs.state_dict())
    for image in (case.input, case.input.contiguous()):
        results = []
        for module in (ours, theirs):
            x = image.detach().requires_grad_()
            y = module(x)
            results.append((y.detach(), *torch.autograd.grad(y, (x, module.weight), case.grad)))
        assert results[0][0].stride() == results[1][0].stride()
        for value, wanted in zip(*results, strict=True):
            assert error(value, wanted.double()) <= 2 * BOUND[case.op]


@needs_library
def test_modules_take_ours_where_it_wins_and_torchs_elsewhere() -> None:
    with Calls() as calls, torch.no_grad():
        conv3x3 = Conv3x3(16, 16)
        for size, who in (
            ((4, 8, 8), "bdp_ext"),
            ((3, 8, 8), "aten"),  # twelve tiles
            ((64, 5, 5), "aten"),  # more than half of their outputs are not in the image
            ((64, 6, 6), "bdp_ext"),
            ((1, 13, 16), "bdp_ext"),
        ):
            batch, height, width = size
            x = torch.zeros(batch, 16, height, width).to(memory_format=torch.channels_last)
            conv3x3(x)
            assert calls.names.pop() == who, size
        input = dense(4, (16, 16), (8, 8)).input
        for module, other in (
            (conv3x3, Conv3x3(16, 24)),
            (DepthwiseConv2d(16, 3, padding=1), DepthwiseConv2d(16, 7, padding=3)),
        ):
            module(input)
            module(input.contiguous())
            module.double()(input.double())
            module.float()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert module(input).dtype == torch.bfloat16
            other(input)
            assert calls.names == ["bdp_ext"] + ["aten"] * 4
            calls.names.clear()
