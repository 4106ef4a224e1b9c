"""Every operation's schema, fallback, fake kernel and gradient: the one place where ops are
registered.

One owner per (op, device). The plain torch reference serves every device; a compiled library that
is loaded (`libraries.py`) takes its own device over. Where the CUDA one is not, Triton does, if it
is installed. C++ only implements; it defines no schema.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bdp_ext import kernels
from bdp_ext.ops import autograd, checks, reference

SCHEMAS = {
    "el2n": "(Tensor logits, Tensor target) -> Tensor",
    "update_voe_": (
        "(Tensor(a!) window, Tensor(b!) voe, int slot, Tensor index, Tensor logits, "
        "Tensor target) -> ()"
    ),
    "voe": "(Tensor window) -> Tensor",
    "capped_topk": (
        "(Tensor score, Tensor label, Tensor cap, int k, bool largest) -> (Tensor, Tensor)"
    ),
    "depthwise_conv2d": (
        "(Tensor input, Tensor weight, int stride, int padding, int dilation) -> Tensor"
    ),
    "depthwise_conv2d_backward": (
        "(Tensor grad, Tensor input, Tensor weight, int stride, int padding, int dilation, "
        "bool need_input, bool need_weight) -> (Tensor, Tensor)"
    ),
    "conv3x3": "(Tensor input, Tensor weight) -> Tensor",
    "conv3x3_backward": (
        "(Tensor grad, Tensor input, Tensor weight, bool need_input, bool need_weight) -> "
        "(Tensor, Tensor)"
    ),
    "node_sum": (
        "(Tensor[] inputs, Tensor weight, bool[] normed, float eps) -> (Tensor, Tensor, Tensor)"
    ),
    "node_sum_backward": (
        "(Tensor grad, Tensor[] inputs, Tensor weight, bool[] normed, Tensor mean, Tensor rstd, "
        "float eps, bool[] need_inputs, bool need_weight) -> (Tensor[], Tensor)"
    ),
    "norm_relu": "(Tensor x, float eps) -> (Tensor, Tensor, Tensor)",
    "norm_relu_backward": (
        "(Tensor grad, Tensor x, Tensor mean, Tensor rstd, float eps) -> Tensor"
    ),
}

_triton_owns: set[str] = set()  # on CUDA devices


def checked(op: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A Python implementation of `op`, with the check of its arguments before it. Backward passes
    get what the forward pass has checked."""
    check = getattr(checks, op, None)
    if check is None:
        return function

    def run(*arguments: Any) -> Any:
        check(*arguments)
        return function(*arguments)

    return run


def _launch(op: str, *arguments: Any) -> Any:
    return kernels.launcher(op)(*arguments)


_library = torch.library.Library("bdp_ext", "DEF")
for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema)
    _library.impl(_name, checked(_name, getattr(reference, _name)), "CompositeExplicitAutograd")
    if _name not in autograd.DIFFERENTIABLE:  # no gradient, whatever its inputs ask for
        _library.impl(_name, torch.library.fallthrough_kernel, "Autograd")
autograd.register(_library, autograd.DIFFERENTIABLE)

# For `bdp_ext.backend("triton")`: the operations that have gradients once more, with Triton's.
_on_demand = torch.library.Library("bdp_ext_triton", "DEF")
_twice = [op for op in kernels.OPERATIONS if op in autograd.DIFFERENTIABLE]
for _name in _twice:
    _on_demand.define(_name + SCHEMAS[_name])
    _on_demand.impl(_name, partial(_launch, _name), "CompositeExplicitAutograd")
autograd.register(_on_demand, _twice)


@torch.library.register_fake("bdp_ext::el2n")
def _(logits: Tensor, target: Tensor) -> Tensor:
    checks.el2n(logits, target)
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


@torch.library.register_fake("bdp_ext::update_voe_")
def _(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    checks.update_voe_(window, voe, slot, index, logits, target)


@torch.library.register_fake("bdp_ext::voe")
def _(window: Tensor) -> Tensor:
    checks.voe(window)
    return window.new_empty(window.shape[1])


@torch.library.register_fake("bdp_ext::capped_topk")
def _(score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    checks.capped_topk(score, label, cap, k, largest)
    return score.new_empty(score.shape, dtype=torch.bool), score.new_empty((), dtype=torch.int64)


@torch.library.register_fake("bdp_ext::depthwise_conv2d")
def _(input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    checks.depthwise_conv2d(input, weight, stride, padding, dilation)
    height, width = (
        (size + 2 * padding - dilation * (weight.shape[2] - 1) - 1) // stride + 1
        for size in input.shape[2:]
    )
    output = input.new_empty(*input.shape[:2], height, width)
    return output.contiguous(memory_format=torch.channels_last)


@torch.library.register_fake("bdp_ext::depthwise_conv2d_backward")
def _(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    need_input: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    grad_input = input.new_empty(input.shape if need_input else 0)
    if need_input:
        grad_input = grad_input.contiguous(memory_format=torch.channels_last)
    return grad_input, weight.new_empty(weight.shape if need_weight else 0)


@torch.library.register_fake("bdp_ext::conv3x3")
def _(input: Tensor, weight: Tensor) -> Tensor:
    checks.conv3x3(input, weight)
    output = input.new_empty(input.shape[0], weight.shape[0], *input.shape[2:])
    return output.contiguous(memory_format=torch.channels_last)


@torch.library.register_fake("bdp_ext::conv3x3_backward")
def _(
    grad: Tensor, input: Tensor, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    return (
        _channels_last(input) if need_input else input.new_empty(0),
        torch.empty_like(weight) if need_weight else weight.new_empty(0),
    )


@torch.library.register_fake("bdp_ext::node_sum")
def _(
    inputs: list[Tensor], weight: Tensor, normed: list[bool], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    mean = weight.new_empty(len(inputs), inputs[0].shape[1])
    return _channels_last(inputs[0]), mean, torch.empty_like(mean)


@torch.library.register_fake("bdp_ext::node_sum_backward")
def _(
    grad: Tensor,
    inputs: list[Tensor],
    weight: Tensor,
    normed: list[bool],
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    need_inputs: list[bool],
    need_weight: bool,
) -> tuple[list[Tensor], Tensor]:
    of_inputs = [_channels_last(x) for x, need in zip(inputs, need_inputs, strict=True) if need]
    return of_inputs, weight.new_empty(len(inputs) if need_weight else 0)


@torch.library.register_fake("bdp_ext::norm_relu")
def _(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    return _channels_last(x), mean, torch.empty_like(mean)


@torch.library.register_fake("bdp_ext::norm_relu_backward")
def _(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> Tensor:
    return _channels_last(x)


def _channels_last(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.channels_last)


def give_cuda_to_triton() -> None:
    """Let Triton compute on CUDA devices. `backend.py` asks for it where the compiled library did
    not load; without triton it does nothing."""
    if torch.version.cuda is not None and kernels.installed():
        for op in kernels.OPERATIONS:
            _library.impl(op, checked(op, partial(_on_triton, op)), "CUDA")
            _triton_owns.add(op)


def _on_triton(op: str, *arguments: Any) -> Any:
    """Triton, or the reference on a GPU too old for it. Imports the kernel on its first call."""
    like = arguments[0][0] if isinstance(arguments[0], list) else arguments[0]
    run = getattr(reference, op) if kernels.why_not(like) else kernels.launcher(op)
    return run(*arguments)


def owner(op: str, device: str) -> str:
    """Who computes `op` on `device` ("cpu", "cuda", ...): "compiled", "triton" or "reference"."""
    key = device.upper()
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"bdp_ext::{op}", key):
        return "reference"
    return "triton" if key == "CUDA" and op in _triton_owns else "compiled"
