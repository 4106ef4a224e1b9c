"""The gradients of the differentiable operations, which are operations themselves, and the
gradients of those: second-order searches differentiate a search step's gradient.

The backward pass of `node_sum` gets the inputs and their moments and computes again what lies
between, so nothing of a node is kept but what its convolutions keep anyway.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bdp_ext.ops import reference

DIFFERENTIABLE = (
    "depthwise_conv2d",
    "depthwise_conv2d_backward",
    "conv3x3",
    "conv3x3_backward",
    "node_sum",
    "node_sum_backward",
    "norm_relu",
    "norm_relu_backward",
)


def register(library: torch.library.Library, names: Sequence[str]) -> None:
    """Give operations of a library their gradients, which call operations of the same library."""
    operations = getattr(torch.ops, library.ns)
    for name in names:
        torch.library.register_autograd(
            f"{library.ns}::{name}",
            partial(globals()[f"{name}_gradient"], operations),
            setup_context=globals()[f"save_for_{name}"],
            lib=library,
        )


def _save_for_convolution(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.set_materialize_grads(False)
    tensors = [value for value in inputs if isinstance(value, Tensor)]
    rest = inputs[len(tensors) :]
    ctx.save_for_backward(*tensors)
    ctx.needed = [value for value in rest if isinstance(value, bool)]  # the backward pass's flags
    ctx.geometry = rest[: len(rest) - len(ctx.needed)]  # stride, padding, dilation


def _convolution_gradient(
    op: str, operations: Any, ctx: Any, grad: Tensor | None
) -> tuple[Tensor | None, ...]:
    none = (None,) * len(ctx.geometry)
    if grad is None:
        return (None, None, *none)
    need_input, need_weight = ctx.needs_input_grad[:2]
    grad_input, grad_weight = getattr(operations, f"{op}_backward")(
        grad, *ctx.saved_tensors, *ctx.geometry, need_input, need_weight
    )
    return (grad_input if need_input else None, grad_weight if need_weight else None, *none)


def _convolution_backward_gradient(
    op: str, operations: Any, ctx: Any, of_input: Tensor | None, of_weight: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Output, input gradient and weight gradient are linear in each of their two operands: their
    own gradients are the same three operations."""
    convolve, backward = getattr(operations, op), getattr(operations, f"{op}_backward")
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
    to_grad = sum(parts[1:], *parts[:1]) if parts else None
    return (to_grad, to_input, to_weight, *(None for _ in (*ctx.geometry, *ctx.needed)))


save_for_depthwise_conv2d = save_for_depthwise_conv2d_backward = _save_for_convolution
depthwise_conv2d_gradient = partial(_convolution_gradient, "depthwise_conv2d")
depthwise_conv2d_backward_gradient = partial(_convolution_backward_gradient, "depthwise_conv2d")

save_for_conv3x3 = save_for_conv3x3_backward = _save_for_convolution
conv3x3_gradient = partial(_convolution_gradient, "conv3x3")
conv3x3_backward_gradient = partial(_convolution_backward_gradient, "conv3x3")


def save_for_node_sum(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    tensors, weight, normed, eps = inputs
    _, mean, rstd = output
    ctx.save_for_backward(weight, mean, rstd, *tensors)
    ctx.mark_non_differentiable(mean, rstd)
    ctx.normed, ctx.eps = normed, eps


def node_sum_gradient(
    operations: Any, ctx: Any, grad: Tensor, *_: Tensor | None
) -> tuple[Any, ...]:
    weight, mean, rstd, *inputs = ctx.saved_tensors
    need_inputs, need_weight = ctx.needs_input_grad[:2]
    found, of_weight = operations.node_sum_backward(
        grad, inputs, weight, ctx.normed, mean, rstd, ctx.eps, need_inputs, need_weight
    )
    return _at(need_inputs, found), of_weight if need_weight else None, None, None


def save_for_node_sum_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, tensors, weight, ctx.normed, _, _, ctx.eps, ctx.need_inputs, ctx.need_weight = inputs
    ctx.save_for_backward(grad, weight, *tensors)


def node_sum_backward_gradient(
    operations: Any, ctx: Any, of_inputs: Sequence[Tensor], of_weight: Tensor
) -> tuple[Any, ...]:
    def backward(grad: Tensor, weight: Tensor, *inputs: Tensor) -> list[Tensor]:
        mean, rstd = reference.moments(inputs, ctx.normed, ctx.eps)
        found, found_weight = reference.node_sum_backward(
            *(grad, inputs, weight, ctx.normed, mean, rstd, ctx.eps),
            *(ctx.need_inputs, ctx.need_weight),
        )
        return [*found, found_weight] if ctx.need_weight else found

    need_grad, need_inputs, need_weight = ctx.needs_input_grad[:3]
    grads = [*of_inputs, of_weight] if ctx.need_weight else of_inputs
    needs = [need_grad, need_weight, *need_inputs]
    grad, weight, *inputs = differentiate(backward, ctx.saved_tensors, needs, grads)
    return grad, inputs, weight, None, None, None, None, None, None


def save_for_norm_relu(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, ctx.eps = inputs
    _, mean, rstd = output
    ctx.save_for_backward(x, mean, rstd)
    ctx.mark_non_differentiable(mean, rstd)


def norm_relu_gradient(
    operations: Any, ctx: Any, grad: Tensor, *_: Tensor | None
) -> tuple[Any, ...]:
    return operations.norm_relu_backward(grad, *ctx.saved_tensors, ctx.eps), None


def save_for_norm_relu_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, x, _, _, ctx.eps = inputs
    ctx.save_for_backward(grad, x)


def norm_relu_backward_gradient(operations: Any, ctx: Any, of_x: Tensor) -> tuple[Any, ...]:
    def backward(grad: Tensor, x: Tensor) -> list[Tensor]:
        mean, rstd = (moment[0] for moment in reference.moments([x], [True], ctx.eps))
        return [reference.norm_relu_backward(grad, x, mean, rstd, ctx.eps)]

    grad, x = differentiate(backward, ctx.saved_tensors, ctx.needs_input_grad[:2], [of_x])
    return grad, x, None, None, None


def _at(needs: Sequence[bool], found: Sequence[Tensor]) -> list[Tensor | None]:
    """What was found, at the places where it was needed; None elsewhere."""
    left = iter(found)
    return [next(left) if need else None for need in needs]


def differentiate(
    function: Callable[..., list[Tensor]],
    arguments: Sequence[Tensor],
    needs: Sequence[bool],
    grads: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradient of `function`, which is plain torch, in those of its arguments that need one;
    itself differentiable where a graph is asked for. Computed in float32 at least, rounded once."""
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: an argument may itself depend on another one, by a way that is not ours to go.
        variables = [x.view_as(x) if need else x for x, need in zip(arguments, needs, strict=True)]
        results = function(*map(reference.wide, variables))
        wanted = [x for x, need in zip(variables, needs, strict=True) if need]
        found = torch.autograd.grad(
            results,
            wanted,
            [grad.to(result.dtype) for grad, result in zip(grads, results, strict=True)],
            create_graph=create_graph,
            allow_unused=True,
        )
    return _at(needs, found)
