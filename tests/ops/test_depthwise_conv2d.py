"""depthwise_conv2d and its gradients: as accurate as float32 allows, for every shape and border."""

from itertools import product

import oracles
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d
from torch.utils._python_dispatch import TorchDispatchMode

import bdp_ext
from bdp_ext import ops
from bdp_ext.spaces.depthwise import DepthwiseConv2d

GEOMETRIES = list(product((3, 5), (1, 2), (1, 2)))  # kernel, stride, dilation
CHANNELS = [1, 16, 20, 33]
SIZES = [(1, 1), (2, 3), (5, 5), (1, 40), (9, 17), (32, 31)]
BACKWARD = "bdp_ext::depthwise_conv2d_backward"


def case(
    batch: int,
    channels: int,
    size: tuple[int, int],
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradient of the output, input and weight; the images in channels_last."""
    generator = torch.Generator().manual_seed(channels + size[1])
    rest = 2 * padding - dilation * (kernel - 1) - 1
    shape = [(n + rest) // stride + 1 for n in size]
    images = [
        torch.randn(batch, channels, *size_, generator=generator, dtype=dtype).to(
            memory_format=torch.channels_last
        )
        for size_ in (shape, size)
    ]
    weight = torch.randn(channels, 1, kernel, kernel, generator=generator, dtype=dtype)
    return images[0], images[1], weight


def expected(
    grad: Tensor, input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Output and both gradients in float64."""
    input, weight = (x.double().requires_grad_() for x in (input, weight))
    output = oracles.depthwise_conv2d(input, weight, stride, padding, dilation)
    return output.detach(), *torch.autograd.grad(output, (input, weight), grad.double())


def close(got: Tensor, wanted: Tensor, terms: int) -> None:
    """Within the rounding of a float32 sum of so many products of normal numbers."""
    torch.testing.assert_close(got.double(), wanted, rtol=1e-6, atol=4e-6 * terms**0.5)


def check(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
) -> None:
    geometry = (stride, padding, dilation)
    output, grad_input, grad_weight = expected(grad, input, weight, *geometry)
    taps, pixels = weight[0].numel(), grad.numel() // grad.shape[1]
    got = ops.depthwise_conv2d(input, weight, *geometry)
    assert got.is_contiguous(memory_format=torch.channels_last)
    close(got, output, taps)
    got_input, got_weight = ops.depthwise_conv2d_backward(grad, input, weight, *geometry)
    assert got_input.is_contiguous(memory_format=torch.channels_last)
    assert got_weight.is_contiguous()
    close(got_input, grad_input, taps)
    close(got_weight, grad_weight, pixels)
    only, none = ops.depthwise_conv2d_backward(grad, input, weight, *geometry, need_weight=False)
    assert torch.equal(only, got_input)
    assert none.shape == (0,)
    none, only = ops.depthwise_conv2d_backward(grad, input, weight, *geometry, need_input=False)
    assert torch.equal(only, got_weight)
    assert none.shape == (0,)


@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_matches_float64_in_every_size(
    implementation: str, size: tuple[int, int], kernel: int, stride: int, dilation: int
) -> None:
    padding = dilation * (kernel // 2)
    check(
        *case(2, 20, size, kernel, stride, padding, dilation),
        stride,
        padding,
        dilation,
    )


@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("channels", CHANNELS)
def test_matches_float64_with_any_channels(
    implementation: str, channels: int, kernel: int, stride: int, dilation: int
) -> None:
    padding = dilation * (kernel // 2)
    check(
        *case(3, channels, (10, 9), kernel, stride, padding, dilation),
        stride,
        padding,
        dilation,
    )


@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
@pytest.mark.parametrize("padding", [0, 3, 6])
def test_matches_float64_with_any_padding(
    implementation: str, padding: int, kernel: int, stride: int, dilation: int
) -> None:
    """Padding other than a kernel's half moves the strips of the input gradient."""
    for size in ((9, 9), (21, 38)):
        check(
            *case(2, 16, size, kernel, stride, padding, dilation),
            stride,
            padding,
            dilation,
        )


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"),
    [(1, 1, 1), (2, 1, 1), (4, 2, 1), (7, 1, 1), (3, 3, 1), (3, 1, 3)],
)
def test_torch_computes_what_there_is_no_kernel_for(
    implementation: str, kernel: int, stride: int, dilation: int
) -> None:
    padding = dilation * (kernel // 2)
    check(
        *case(2, 8, (11, 12), kernel, stride, padding, dilation),
        stride,
        padding,
        dilation,
    )


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 2, 2)])
def test_many_pixels_do_not_add_up_their_rounding(kernel: int, stride: int, dilation: int) -> None:
    """The weight gradient of a batch whose products all have one sign, beside torch's."""
    padding = dilation * (kernel // 2)
    grad, input, weight = case(64, 16, (32, 32), kernel, stride, padding, dilation)
    grad, input = grad.abs(), input.abs()
    wanted = expected(grad, input, weight, stride, padding, dilation)[2]
    _, got = ops.depthwise_conv2d_backward(
        grad, input, weight, stride, padding, dilation, need_input=False
    )
    with bdp_ext.backend("reference"):
        _, torchs = ops.depthwise_conv2d_backward(
            grad, input, weight, stride, padding, dilation, need_input=False
        )
    assert oracles.relative_error(got, wanted) <= 1e-6
    assert oracles.relative_error(got, wanted) <= oracles.relative_error(torchs, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_dtypes(implementation: str, dtype: torch.dtype) -> None:
    grad, input, weight = case(2, 8, (8, 9), 3, 2, 1, 1, dtype)
    output, grad_input, grad_weight = expected(grad, input, weight, 2, 1, 1)
    got = (
        ops.depthwise_conv2d(input, weight, 2),
        *ops.depthwise_conv2d_backward(grad, input, weight, 2),
    )
    tolerance = 32 * torch.finfo(dtype).eps
    for value, wanted in zip(got, (output, grad_input, grad_weight), strict=True):
        assert value.dtype == dtype
        torch.testing.assert_close(value.double(), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("kernel", [3, 5])
def test_any_layout_and_nothing_written(implementation: str, kernel: int) -> None:
    grad, input, weight = case(2, 16, (8, 9), kernel, 1, kernel // 2, 1)
    output = ops.depthwise_conv2d(input, weight)
    gradients = ops.depthwise_conv2d_backward(grad, input, weight)
    wide = torch.randn(2, 32, 8, 9).to(memory_format=torch.channels_last)
    wide[:, ::2] = input
    turned = weight.transpose(2, 3).contiguous().transpose(2, 3)
    for image, other in ((input.contiguous(), grad.contiguous()), (wide[:, ::2], grad)):
        before = [x.clone() for x in (image, other, turned)]
        close(ops.depthwise_conv2d(image, turned), output.double(), kernel**2)
        for again, first in zip(
            ops.depthwise_conv2d_backward(other, image, turned), gradients, strict=True
        ):
            close(again, first.double(), grad[:, 0].numel())
        assert all(map(torch.equal, before, (image, other, turned)))


def test_no_images(implementation: str) -> None:
    grad, input, weight = case(0, 16, (8, 8), 3, 1, 1, 1)
    assert ops.depthwise_conv2d(input, weight).shape == (0, 16, 8, 8)
    grad_input, grad_weight = ops.depthwise_conv2d_backward(grad, input, weight)
    assert grad_input.shape == input.shape
    assert torch.equal(grad_weight, torch.zeros_like(weight))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (5, 2, 2)])
def test_does_not_depend_on_the_threads(kernel: int, stride: int, dilation: int) -> None:
    padding = dilation * (kernel // 2)
    for batch, channels, size in ((64, 16, 32), (3, 20, 9), (16, 64, 8)):
        grad, input, weight = case(batch, channels, (size, size), kernel, stride, padding, dilation)
        results = []
        before = torch.get_num_threads()
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(
                (
                    ops.depthwise_conv2d(input, weight, stride, padding, dilation),
                    *ops.depthwise_conv2d_backward(grad, input, weight, stride, padding, dilation),
                )
            )
        torch.set_num_threads(before)
        if bdp_ext.build_info()["libraries"]["cpu"]["loaded"]:
            assert all(map(torch.equal, results[0], results[1]))
            assert all(map(torch.equal, results[0], results[2]))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
def test_autograd_is_the_oracles(
    implementation: str, kernel: int, stride: int, dilation: int
) -> None:
    """First and second derivatives in float32, through the kernels."""
    padding = dilation * (kernel // 2)
    grad, input, weight = case(2, 8, (7, 6), kernel, stride, padding, dilation)
    geometry = (stride, padding, dilation)

    def derivatives(convolve, grad: Tensor, *inputs: Tensor) -> list[Tensor]:
        grad, *inputs = (x.detach().requires_grad_() for x in (grad, *inputs))
        output = convolve(*inputs, *geometry)
        first = torch.autograd.grad(output, inputs, grad, create_graph=True)
        second = torch.autograd.grad(first[0].pow(3).sum() + first[1].pow(3).sum(), [grad, *inputs])
        return [output, *first, *second]

    got = derivatives(ops.depthwise_conv2d, grad, input, weight)
    wanted = derivatives(oracles.depthwise_conv2d, grad.double(), input.double(), weight.double())
    for value, exact in zip(got, wanted, strict=True):
        assert (value - exact).norm() <= 2e-6 * exact.norm()


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 2, 2), (2, 0, 1)])
def test_gradcheck(stride: int, padding: int, dilation: int) -> None:
    _, input, weight = case(2, 3, (6, 5), 3, stride, padding, dilation, torch.float64)
    inputs = (input.requires_grad_(), weight.requires_grad_())

    def convolve(input: Tensor, weight: Tensor) -> Tensor:
        return ops.depthwise_conv2d(input, weight, stride, padding, dilation)

    assert torch.autograd.gradcheck(convolve, inputs)
    assert torch.autograd.gradgradcheck(convolve, inputs)
    for fixed in ((input.detach(), weight), (input, weight.detach())):
        assert torch.autograd.gradcheck(convolve, fixed)
        assert torch.autograd.gradgradcheck(convolve, fixed)


class Calls(TorchDispatchMode):
    """Records which gradients the backward passes compute."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: list[tuple[bool, bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.name() == BACKWARD:
            self.wanted.append(args[-2:])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (True, True)])
def test_computes_only_the_gradients_that_are_needed(wanted: tuple[bool, bool]) -> None:
    _, input, weight = case(2, 4, (6, 5), 3, 1, 1, 1)
    input, weight = input.requires_grad_(wanted[0]), weight.requires_grad_(wanted[1])
    with Calls() as calls:
        ops.depthwise_conv2d(input, weight).sum().backward()
    assert calls.wanted == [wanted]
    assert (input.grad is not None, weight.grad is not None) == wanted


@pytest.mark.parametrize(
    ("input", "weight", "options", "message"),
    [
        (torch.zeros(3, 4, 4), torch.zeros(3, 1, 3, 3), {}, "input must be a 4-d"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 1, 3, 3).double(), {}, "weight must be a 4-d"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(4, 1, 3, 3), {}, r"weight must be \[3, 1, k, k\]"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 1, 3, 5), {}, r"weight must be \[3, 1, k, k\]"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 1, 3, 3), {"stride": 0}, "stride and dilation"),
        (torch.zeros(1, 3, 4, 4), torch.zeros(3, 1, 3, 3), {"padding": -1}, "padding >= 0"),
        (
            torch.zeros(1, 3, 4, 4),
            torch.zeros(3, 1, 5, 5),
            {"padding": 0},
            "larger than the padded",
        ),
        (torch.zeros(1, 3, 4, 4).int(), torch.zeros(3, 1, 3, 3).int(), {}, "input must be a 4-d"),
    ],
)
def test_rejects(
    implementation: str, input: Tensor, weight: Tensor, options: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=f"depthwise_conv2d: .*{message}"):
        ops.depthwise_conv2d(input, weight, **options)
    with pytest.raises(ValueError, match=f"depthwise_conv2d_backward: .*{message}"):
        ops.depthwise_conv2d_backward(input, input, weight, **options)


def test_rejects_a_gradient_of_another_shape(implementation: str) -> None:
    grad, input, weight = case(2, 3, (6, 5), 3, 1, 1, 1)
    with pytest.raises(ValueError, match=r"grad must be \[2, 3, 3, 3\], as the output"):
        ops.depthwise_conv2d_backward(grad, input, weight, stride=2)


def test_triton_has_no_kernel() -> None:
    _, input, weight = case(2, 3, (6, 5), 3, 1, 1, 1)
    try:
        with bdp_ext.backend("triton"), pytest.raises(RuntimeError, match="has no kernel for it"):
            ops.depthwise_conv2d(input, weight)
    except RuntimeError as error:
        pytest.skip(str(error))


# opcheck itself looks at the gradients of its copies.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_a_good_citizen_of_torch(dtype: torch.dtype) -> None:
    grad, input, weight = case(2, 16, (7, 6), 5, 2, 2, 1, dtype)
    inputs = (input.requires_grad_(), weight.requires_grad_())
    operations = torch.ops.bdp_ext
    torch.library.opcheck(operations.depthwise_conv2d.default, (*inputs, 2, 2, 1))
    for needs in ((True, True), (True, False), (False, True)):
        arguments = (grad, *inputs, 2, 2, 1, *needs)
        torch.library.opcheck(operations.depthwise_conv2d_backward.default, arguments)


def test_compiles_with_its_gradients() -> None:
    grad, input, _ = case(2, 16, (7, 6), 5, 1, 4, 2)
    module = DepthwiseConv2d(16, 5, padding=4, dilation=2)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    inputs = (input.requires_grad_(), module.weight)
    output, again = module(input), compiled(input)
    assert torch.equal(output, again)
    wanted = torch.autograd.grad(output, inputs, grad)
    assert all(map(torch.equal, torch.autograd.grad(again, inputs, grad), wanted))


def torch_module(kernel: int, stride: int, dilation: int, channels: int = 16) -> nn.Conv2d:
    return nn.Conv2d(
        channels,
        channels,
        kernel,
        stride,
        dilation * (kernel // 2),
        dilation,
        groups=channels,
        bias=False,
    )


@pytest.mark.parametrize(("kernel", "stride", "dilation"), GEOMETRIES)
def test_module_is_torchs_in_all_but_time(kernel: int, stride: int, dilation: int) -> None:
    theirs = torch_module(kernel, stride, dilation)
    module = DepthwiseConv2d(16, kernel, stride, dilation * (kernel // 2), dilation)
    assert isinstance(module, nn.Conv2d)
    module.load_state_dict(theirs.state_dict())
    grad, input, _ = case(2, 16, (8, 8), kernel, stride, dilation * (kernel // 2), dilation)
    results = []
    for m in (theirs, module):
        x = input.clone().requires_grad_()
        y = m(x)
        results.append((y, *torch.autograd.grad(y, (x, m.weight), grad)))
    for theirs_, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs_, rtol=1e-5, atol=2e-5)


class Convolutions(TorchDispatchMode):
    """Records which operation computes a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "conv" in func.name():
            self.names.append(func.name().split(":")[0])
        return func(*args, **(kwargs or {}))


def test_module_takes_ours_where_it_wins_and_torchs_elsewhere() -> None:
    if not bdp_ext.build_info()["libraries"]["cpu"]["loaded"]:
        pytest.skip("the compiled library is not there")
    _, input, _ = case(2, 16, (8, 8), 3, 1, 1, 1)
    module = DepthwiseConv2d(16, 3, padding=1)
    with Convolutions() as calls, torch.no_grad():
        module(input)
        module(input.contiguous())
        module.double()(input.double())
        module.float()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert module(input).dtype == torch.bfloat16
        DepthwiseConv2d(16, 7, padding=3)(input)
    assert calls.names == ["bdp_ext", "aten", "aten", "aten", "aten"]


def test_module_keeps_the_formats_torch_would_give() -> None:
    _, input, weight = case(2, 16, (8, 8), 3, 1, 1, 1)
    module = DepthwiseConv2d(16, 3, padding=1)
    for image in (input, input.contiguous()):
        wanted = conv2d(image, weight, None, 1, 1, 1, 16)
        assert module(image).stride() == wanted.stride()
