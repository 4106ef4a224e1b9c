"""Half of a separable convolution, (batch norm, ReLU,) depthwise, pointwise, that keeps its input
alone: backward computes the cheap things between again."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from bdp_ext import ops
from bdp_ext.ops.autograd import differentiate
from bdp_ext.spaces.depthwise import depthwise, depthwise_backward
from bdp_ext.spaces.operations import DilatedConv


def convolve(half: DilatedConv, x: Tensor, norm_relu: bool) -> Tensor:
    """Both convolutions of a `DilatedConv`, without its own ReLU and batch norm.

    Args:
        x: [B, C, H, W].
        norm_relu: normalise x and take its ReLU first, as the second half of a separable
            convolution does.

    Returns:
        [B, C, H', W'].
    """
    # torch.compile decides itself what is computed again.
    if torch.is_autocast_enabled(x.device.type) or torch.compiler.is_compiling():
        return half.convolve(ops.norm_relu(x, half.eps) if norm_relu else x)
    y: Tensor = _Convolve.apply(x, *half.kernels, half, norm_relu)
    return y


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, depth: Tensor, point: Tensor, half: DilatedConv, norm_relu: bool
    ) -> Tensor:
        ctx.save_for_backward(x, depth, point)
        ctx.half, ctx.norm_relu = half, norm_relu
        return _plainly(x, depth, point, half, norm_relu)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, depth, point = ctx.saved_tensors
        half, norm_relu = ctx.half, ctx.norm_relu
        needs = ctx.needs_input_grad[:3]
        if torch.is_grad_enabled():  # a graph of this is wanted: let autograd make it
            found = differentiate(
                lambda x, depth, point: [_plainly(x, depth, point, half, norm_relu)],
                (x, depth, point),
                needs,
                [grad],
            )
            return *found, None, None

        # What a gradient does not need is passed for its shape alone.
        need_x, need_depth, need_point = needs
        between = x
        if norm_relu:
            between, mean, rstd = ops.norm_relu_with_moments(x, half.eps)
        deep = depthwise(between, depth, half.geometry) if need_point else grad
        of_deep, of_point, _ = torch.ops.aten.convolution_backward(
            *(grad, deep, point, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1),
            [need_x or need_depth, need_point, False],
        )
        of_x = of_depth = None
        if need_x or need_depth:
            of_x, of_depth = depthwise_backward(
                of_deep, between, depth, half.geometry, need_x, need_depth
            )
        if norm_relu and of_x is not None:
            of_x = ops.norm_relu_backward(of_x, x, mean, rstd, half.eps)
        return of_x, of_depth, of_point, None, None


def _plainly(x: Tensor, depth: Tensor, point: Tensor, half: DilatedConv, norm_relu: bool) -> Tensor:
    if norm_relu:
        x = ops.norm_relu(x, half.eps)
    return conv2d(depthwise(x, depth, half.geometry), point)
