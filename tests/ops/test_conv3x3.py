"""conv3x3 and its gradients: as accurate as is promised, for every shape and border."""

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import bdp_ext
from bdp_ext import ops
from bdp_ext.spaces.conv3x3 import Conv3x3

CHANNELS = [(16, 16), (16, 32), (32, 48), (48, 64), (64, 16)]
OTHER_CHANNELS = [(1, 1), (3, 16), (16, 24)]
BOUND = 2e-6  # of the norm; measured are 5e-7 to 9e-7
NEEDS = [(True, True), (True, False), (False, True)]


def case(
    batch: int,
    channels: tuple[int, int],
    size: tuple[int, int],
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the output, input and weight; the images in channels_last."""
    inputs, outputs = channels
    generator = torch.Generator().manual_seed(inputs + outputs + size[1])
    grad, input = (
        torch.randn(batch, c, *size, generator=generator, dtype=dtype).to(
            memory_format=torch.channels_last
        )
        for c in (outputs, inputs)
    )
    return grad, input, torch.randn(outputs, inputs, 3, 3, generator=generator, dtype=dtype)


def expected(grad: Tensor, input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output and both gradients in float64."""
    input, weight = (x.double().requires_grad_() for x in (input, weight))
    output = oracles.conv3x3(input, weight)
    return output.detach(), *torch.autograd.grad(output, (input, weight), grad.double())


def error(got: Tensor, wanted: Tensor) -> float:
    assert got.shape == wanted.shape
    return float((got.double() - wanted).norm() / wanted.norm())


def check(grad: Tensor, input: Tensor, weight: Tensor) -> None:
    output, grad_input, grad_weight = expected(grad, input, weight)
    got = ops.conv3x3(input, weight)
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert error(got, output) <= BOUND
    got_input, got_weight = ops.conv3x3_backward(grad, input, weight)
    assert got_input.is_contiguous(memory_format=torch.channels_last)
    assert got_weight.stride() == torch.empty_like(weight).stride()
    assert error(got_input, grad_input) <= BOUND
    assert error(got_weight, grad_weight) <= BOUND
    only, none = ops.conv3x3_backward(grad, input, weight, need_weight=False)
    assert torch.equal(only, got_input)
    assert none.shape == (0,)
    none, only = ops.conv3x3_backward(grad, input, weight, need_input=False)
    assert torch.equal(only, got_weight)
    assert none.shape == (0,)


@pytest.mark.parametrize("width", range(1, 10))
def test_matches_float64_in_every_size(implementation: str, width: int) -> None:
    for height in (1, 3, 4, 6, 9):
        check(*case(2, (16, 16), (height, width)))


@pytest.mark.parametrize("channels", CHANNELS + OTHER_CHANNELS, ids=str)
def test_matches_float64_with_any_channels(implementation: str, channels: tuple[int, int]) -> None:
    for batch, size in ((1, (1, 1)), (3, (10, 7))):
        check(*case(batch, channels, size))


@pytest.mark.parametrize(("channels", "size"), [(16, 32), (32, 16), (64, 8), (128, 8)])
@pytest.mark.parametrize("batch", [1, 16])
def test_matches_float64_in_the_supernets_sizes(
    implementation: str, channels: int, size: int, batch: int
) -> None:
    check(*case(batch, (channels, channels), (size, size)))


def test_every_pixel_is_right(implementation: str) -> None:
    """A single one off, at a border say, would not show in a norm."""
    grad, input, weight = case(3, (16, 32), (9, 14))
    wanted = expected(grad, input, weight)
    got = (ops.conv3x3(input, weight), *ops.conv3x3_backward(grad, input, weight))
    for value, exact in zip(got, wanted, strict=True):
        assert (value.double() - exact).abs().max() <= 4e-6 * exact.abs().max()


def test_many_pixels_do_not_add_up_their_rounding() -> None:
    """The weight gradient of a batch whose products all have one sign, beside torch's."""
    grad, input, weight = case(64, (16, 16), (32, 32))
    grad, input = grad.abs(), input.abs()
    wanted = expected(grad, input, weight)[2]
    _, got = ops.conv3x3_backward(grad, input, weight, need_input=False)
    with bdp_ext.backend("reference"):
        _, torchs = ops.conv3x3_backward(grad, input, weight, need_input=False)
    assert error(got, wanted) <= BOUND
    assert error(got, wanted) <= max(error(torchs, wanted), 1e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(implementation: str, dtype: torch.dtype) -> None:
    grad, input, weight = case(2, (16, 16), (8, 9), dtype)
    got = (ops.conv3x3(input, weight), *ops.conv3x3_backward(grad, input, weight))
    for value, wanted in zip(got, expected(grad, input, weight), strict=True):
        assert value.dtype == dtype
        assert error(value, wanted) <= 2 * torch.finfo(dtype).eps


def test_any_layout_and_nothing_written(implementation: str) -> None:
    grad, input, weight = case(2, (16, 32), (8, 9))
    results = (ops.conv3x3(input, weight), *ops.conv3x3_backward(grad, input, weight))
    wide = torch.randn(2, 32, 8, 9).to(memory_format=torch.channels_last)
    wide[:, ::2] = input
    last = weight.to(memory_format=torch.channels_last)
    turned = weight.permute(2, 0, 3, 1).contiguous().permute(1, 3, 0, 2)
    thick = torch.stack([weight, weight], -1)[..., 0]
    for image, other, w in (
        (input.contiguous(), grad.contiguous(), last),
        (wide[:, ::2], grad, turned),
        (input, grad, thick),
    ):
        before = [x.clone() for x in (image, other, w)]
        got = (ops.conv3x3(image, w), *ops.conv3x3_backward(other, image, w))
        for again, first in zip(got, results, strict=True):
            assert error(again, first.double()) <= 1e-6
        assert got[2].stride() == torch.empty_like(w).stride()
        assert all(map(torch.equal, before, (image, other, w)))


@pytest.mark.parametrize("channels", [(16, 16), (3, 5)])
def test_no_images(implementation: str, channels: tuple[int, int]) -> None:
    grad, input, weight = case(0, channels, (8, 8))
    assert ops.conv3x3(input, weight).shape == grad.shape
    grad_input, grad_weight = ops.conv3x3_backward(grad, input, weight)
    assert grad_input.shape == input.shape
    assert torch.equal(grad_weight, torch.zeros_like(weight))


def test_nan_stays_where_it_belongs() -> None:
    """A tile is computed together with what others left in the memory behind it."""
    grad, input, weight = case(1, (16, 16), (4, 4))
    wanted = ops.conv3x3(input, weight)
    ops.conv3x3(torch.full((64, 16, 32, 32), float("nan")), weight)
    assert torch.equal(ops.conv3x3(input, weight), wanted)
    assert all(not x.isnan().any() for x in ops.conv3x3_backward(grad, input, weight))


def test_does_not_depend_on_the_threads() -> None:
    if not bdp_ext.build_info()["libraries"]["cpu"]["loaded"]:
        pytest.skip("the compiled library is not there")
    before = torch.get_num_threads()
    for batch, channels, size in ((64, 16, 32), (3, 48, 9), (64, 64, 8)):
        grad, input, weight = case(batch, (channels, channels), (size, size))
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append((ops.conv3x3(input, weight), *ops.conv3x3_backward(grad, input, weight)))
        torch.set_num_threads(before)
        assert all(map(torch.equal, results[0], results[1]))
        assert all(map(torch.equal, results[0], results[2]))


@pytest.mark.parametrize("channels", [(16, 16), (16, 32), (3, 5)])
def test_autograd_is_the_oracles(implementation: str, channels: tuple[int, int]) -> None:
    """First and second derivatives in float32, through the kernels."""
    grad, input, weight = case(2, channels, (7, 6))

    def derivatives(convolve, grad: Tensor, *inputs: Tensor) -> list[Tensor]:
        grad, *inputs = (x.detach().requires_grad_() for x in (grad, *inputs))
        output = convolve(*inputs)
        first = torch.autograd.grad(output, inputs, grad, create_graph=True)
        second = torch.autograd.grad(first[0].pow(3).sum() + first[1].pow(3).sum(), [grad, *inputs])
        return [output, *first, *second]

    got = derivatives(ops.conv3x3, grad, input, weight)
    wanted = derivatives(oracles.conv3x3, grad.double(), input.double(), weight.double())
    for value, exact in zip(got, wanted, strict=True):
        assert error(value.detach(), exact.detach()) <= 2 * BOUND


def test_gradcheck() -> None:
    _, input, weight = case(2, (3, 2), (5, 4), torch.float64)
    inputs = (input.requires_grad_(), weight.requires_grad_())
    for arguments in (inputs, (input.detach(), weight), (input, weight.detach())):
        assert torch.autograd.gradcheck(ops.conv3x3, arguments)
        assert torch.autograd.gradgradcheck(ops.conv3x3, arguments)


class Calls(TorchDispatchMode):
    """Records which convolutions run, and the flags of the backward passes."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.wanted: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == "bdp_ext::conv3x3_backward":
            self.wanted.append(args[-2:])
        if "conv" in func.name():
            self.names.append(func.name().split(":")[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("wanted", NEEDS)
def test_computes_only_the_gradients_that_are_needed(wanted: tuple[bool, bool]) -> None:
    _, input, weight = case(2, (16, 16), (6, 5))
    input, weight = input.requires_grad_(wanted[0]), weight.requires_grad_(wanted[1])
    with Calls() as calls:
        ops.conv3x3(input, weight).sum().backward()
    assert calls.wanted == [wanted]
    assert (input.grad is not None, weight.grad is not None) == wanted


@pytest.mark.parametrize(
    ("input", "weight", "message"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3, 3, 3, 3), "input must be a 4-d"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 3, 3, 3).double(), "weight must be a 4-d"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 4, 3, 3), r"weight must be \[O, 3, 3, 3\]"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 3, 3, 5), r"weight must be \[O, 3, 3, 3\]"),
        (torch.zeros(1, 3, 0, 4), torch.zeros(3, 3, 3, 3), "must have height and width"),
        (torch.zeros(1, 3, 4, 4).int(), torch.zeros(3, 3, 3, 3).int(), "input must be a 4-d"),
    ],
)
def test_rejects(implementation: str, input: Tensor, weight: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"conv3x3: .*{message}"):
        ops.conv3x3(input, weight)
    with pytest.raises(ValueError, match=f"conv3x3_backward: .*{message}"):
        ops.conv3x3_backward(input, input, weight)
    if input.is_floating_point():  # torch convolves integers
        with pytest.raises((ValueError, RuntimeError)):  # past the door, too
            torch.ops.bdp_ext.conv3x3(input, weight)


def test_rejects_a_gradient_of_another_shape(implementation: str) -> None:
    grad, input, weight = case(2, (16, 32), (6, 5))
    with pytest.raises(ValueError, match=r"grad must be \[2, 32, 6, 5\], as the output"):
        ops.conv3x3_backward(grad[:, :16], input, weight)
    with pytest.raises((ValueError, RuntimeError), match="grad must"):
        torch.ops.bdp_ext.conv3x3_backward(grad[:, :16], input, weight, True, True)


# opcheck itself looks at the gradients of its copies.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize(
    ("channels", "dtype"),
    [((16, 32), torch.float32), ((16, 32), torch.float64), ((3, 5), torch.float32)],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_is_a_good_citizen_of_torch(
    channels: tuple[int, int], dtype: torch.dtype, memory_format: torch.memory_format
) -> None:
    grad, input, weight = case(2, channels, (7, 6), dtype)
    weight = weight.to(memory_format=memory_format)
    inputs = (input.requires_grad_(), weight.requires_grad_())
    torch.library.opcheck(torch.ops.bdp_ext.conv3x3.default, inputs)
    for needs in NEEDS:
        torch.library.opcheck(torch.ops.bdp_ext.conv3x3_backward.default, (grad, *inputs, *needs))


def test_compiles_with_its_gradients() -> None:
    grad, input, _ = case(4, (16, 16), (8, 8))
    module = Conv3x3(16, 16)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    inputs = (input.requires_grad_(), module.weight)
    output, again = module(input), compiled(input)
    assert torch.equal(output, again)
    wanted = torch.autograd.grad(output, inputs, grad)
    assert all(map(torch.equal, torch.autograd.grad(again, inputs, grad), wanted))


@pytest.mark.parametrize(("inputs", "outputs"), [(16, 16), (16, 32), (3, 16)])
def test_module_is_torchs_in_all_but_time(inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    theirs = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    torch.manual_seed(0)
    module = Conv3x3(inputs, outputs)
    assert isinstance(module, nn.Conv2d)
    assert torch.equal(module.weight, theirs.weight)
    module.load_state_dict(theirs.state_dict())
    grad, input, _ = case(4, (inputs, outputs), (8, 8))
    results = []
    for m in (theirs, module):
        x = input.clone().requires_grad_()
        y = m(x)
        results.append((y.detach(), *torch.autograd.grad(y, (x, m.weight), grad)))
    for theirs_, ours in zip(*results, strict=True):
        assert error(ours, theirs_.double()) <= 2 * BOUND


def test_module_takes_ours_where_it_wins_and_torchs_elsewhere() -> None:
    if not bdp_ext.build_info()["libraries"]["cpu"]["loaded"]:
        pytest.skip("the compiled library is not there")
    _, input, _ = case(4, (16, 16), (8, 8))
    module = Conv3x3(16, 16)
    with Calls() as calls, torch.no_grad():
        for size, who in (
            ((4, 8, 8), "bdp_ext"),
            ((3, 8, 8), "aten"),  # twelve tiles
            ((64, 5, 5), "aten"),  # more than half of their outputs are not in the image
            ((64, 6, 6), "bdp_ext"),
            ((1, 13, 16), "bdp_ext"),
        ):
            batch, height, width = size
            x = torch.zeros(batch, 16, height, width).to(memory_format=torch.channels_last)
            module(x)
            assert calls.names.pop() == who, size
        module(input.contiguous())
        module.double()(input.double())
        module.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(input).dtype == torch.bfloat16
        Conv3x3(16, 24)(input)
    assert calls.names == ["aten"] * 4


def test_module_keeps_the_formats_torch_would_give() -> None:
    _, input, _ = case(4, (16, 32), (8, 8))
    module = Conv3x3(16, 32)
    for image in (input, input.contiguous()):
        wanted = nn.functional.conv2d(image, module.weight, padding=1)
        assert module(image).stride() == wanted.stride()


def test_triton_has_no_kernel() -> None:
    _, input, weight = case(2, (16, 16), (6, 5))
    try:
        with bdp_ext.backend("triton"), pytest.raises(RuntimeError, match="has no kernel for it"):
            ops.conv3x3(input, weight)
    except RuntimeError as error:
        pytest.skip(str(error))
