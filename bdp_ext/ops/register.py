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


def _fake(op: str) -> Callable[[Callable[..., Any]], None]:
    """What `op` gives for tensors without data, after the check of its arguments."""
    return lambda function: torch.library.register_fake(f"bdp_ext::{op}", checked(op, function))


@_fake("el2n")
def _(logits: Tensor, target: Tensor) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


@_fake("update_voe_")
def _(*_: Any) -> None:
    pass


@_fake("voe")
def _(window: Tensor) -> Tensor:
    return window.new_empty(window.shape[1])


@_fake("capped_topk")
def _(score: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return score.new_empty(score.shape, dtype=torch.bool), score.new_empty((), dtype=torch.int64)


@_fake("depthwise_conv2d")
def _(input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
    rest = 2 * padding - dilation * (weight.shape[2] - 1) - 1
    height, width = ((size + rest) // stride + 1 for size in input.shape[2:])
    return _channels_last(input.new_empty(*input.shape[:2], height, width))


@_fake("depthwise_conv2d_backward")
def _(grad: Tensor, input: Tensor, weight: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    need_input, need_weight = options[-2:]
    return (
        _channels_last(input) if need_input else input.new_empty(0),
        weight.new_empty(weight.shape if need_weight else 0),
    )


@_fake("conv3x3")
def _(input: Tensor, weight: Tensor) -> Tensor:
    return _channels_last(input.new_empty(input.shape[0], weight.shape[0], *input.shape[2:]))


@_fake("conv3x3_backward")
def _(
    grad: Tensor, input: Tensor, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    return (
        _channels_last(input) if need_input else input.new_empty(0),
        torch.empty_like(weight) if need_weight else weight.new_empty(0),
    )


@_fake("node_sum")
def _(inputs: list[Tensor], weight: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    mean = weight.new_empty(len(inputs), inputs[0].shape[1])
    return _channels_last(inputs[0]), mean, torch.empty_like(mean)


@_fake("node_sum_backward")
def _(
    grad: Tensor, inputs: list[Tensor], weight: Tensor, *options: Any
) -> tuple[list[Tensor], Tensor]:
    need_inputs, need_weight = options[-2:]
    of_inputs = [_channels_last(x) for x, need in zip(inputs, need_inputs, strict=True) if need]
    return of_inputs, weight.new_empty(len(inputs) if need_weight else 0)


@_fake("norm_relu")
def _(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    mean = x.new_empty(x.shape[1], dtype=torch.promote_types(x.dtype, torch.float32))
    return _channels_last(x), mean, torch.empty_like(mean)


@_fake("norm_relu_backward")
def _(grad: Tensor, x: Tensor, *_: Any) -> Tensor:
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
