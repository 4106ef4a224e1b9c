"""The gradients of the differentiable operations, which are operations themselves, and the
gradients of those: second-order searches differentiate a search step's gradient.
"""

from typing import Any

import torch
from torch import Tensor

DIFFERENTIABLE = ("depthwise_conv2d", "depthwise_conv2d_backward")


def save_for_depthwise_conv2d(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    ctx.save_for_backward(*tensors)
    ctx.geometry = inputs[len(tensors) : len(tensors) + 3]  # stride, padding, dilation
    ctx.needed = inputs[len(tensors) + 3 :]  # the backward pass's flags


def depthwise_conv2d_gradient(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    need_input, need_weight = ctx.needs_input_grad[:2]
    grad_input, grad_weight = torch.ops.bdp_ext.depthwise_conv2d_backward.default(
        grad, *ctx.saved_tensors, *ctx.geometry, need_input, need_weight
    )
    return (grad_input if need_input else None, grad_weight if need_weight else None) + (None,) * 3


def depthwise_conv2d_backward_gradient(
    ctx: Any, of_input: Tensor | None, of_weight: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Output, input gradient and weight gradient are linear in each of their two operands: their
    own gradients are the same three operations."""
    convolve = torch.ops.bdp_ext.depthwise_conv2d.default
    backward = torch.ops.bdp_ext.depthwise_conv2d_backward.default
    grad, input, weight = ctx.saved_tensors
    need_grad, need_input, need_weight = ctx.needs_input_grad[:3]
    parts = []
    to_input = to_weight = None
    if of_input is not None and ctx.needed[0]:
        if need_grad:
            parts.append(convolve(of_input, weight, *ctx.geometry))
        if need_weight:
            to_weight = backward(grad, of_input, weight, *ctx.geometry, False, True)[1]
    if of_weight is not None and ctx.needed[1]:
        if need_grad:
            parts.append(convolve(input, of_weight, *ctx.geometry))
        if need_input:
            to_input = backward(grad, input, of_weight, *ctx.geometry, True, False)[0]
    return (sum(parts[1:], *parts[:1]) if parts else None, to_input, to_weight) + (None,) * 5


save_for_depthwise_conv2d_backward = save_for_depthwise_conv2d
