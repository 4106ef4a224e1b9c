"""node_sum in Triton, forward and backward (DARTS, Eq. 2; the formulas are in `ops/reference.py`).

A program owns a tile of pixels and channels. Sums over pixels are taken slice by slice, moments
shifted by the slice's first pixel, and put together in float64. The node's value is one launch over
all inputs; moments, products and gradients are launches of each input, so g is read once an input,
which an L2 of some MB hides. The compiled CUDA version reads it once.

Inputs, the value and the inputs' gradients are float32, float16 or bfloat16; all else is float32.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from bdp_ext.kernels._float64 import inverse, root

TILE = 2048  # numbers of a tile: 16 a thread
MOST_CHANNELS = 128  # of a tile; below, as many pixels as fill it
SLICES = 256  # at most
TOGETHER = tl.constexpr(32)  # slices that are added up at once


@triton.jit
def tile_of(
    first: tl.tensor, last: tl.tensor, C: tl.tensor, PIXELS: tl.constexpr, CHANNELS: tl.constexpr
) -> tl.tensor:
    """Where a tile's numbers stand, which of them there are (pixels below `last`), their channels,
    and which of those."""
    pixel = first + tl.arange(0, PIXELS)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    at = pixel.to(tl.int64)[:, None] * C + channel[None, :]
    there = (pixel < last)[:, None] & (channel < C)[None, :]
    return at, there, channel, channel < C


@triton.jit
def load(at: tl.tensor, there: tl.tensor) -> tl.tensor:
    return tl.load(at, mask=there, other=0.0).to(tl.float32)


@triton.jit
def moments_kernel(
    partial: tl.tensor,  # [slices, 3, C] float64, written: pixels, mean, squares of deviations
    x: tl.tensor,  # [n, C]
    n: tl.tensor,
    C: tl.tensor,
    per_slice: tl.tensor,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    begin = tl.program_id(0) * per_slice
    end = tl.minimum(begin + per_slice, n)
    total = tl.zeros([PIXELS, CHANNELS], tl.float32)
    squares = tl.zeros([PIXELS, CHANNELS], tl.float32)
    at, there, channel, real = tile_of(begin, end, C, PIXELS, CHANNELS)
    shift = load(x + begin.to(tl.int64) * C + channel, real)
    for first in tl.range(begin, end, PIXELS):
        at, there, channel, real = tile_of(first, end, C, PIXELS, CHANNELS)
        d = tl.where(there, load(x + at, there) - shift[None, :], 0.0)
        total += d
        squares += d * d
    count = (end - begin).to(tl.float64)
    away = tl.sum(total.to(tl.float64), axis=0)
    to = partial + tl.program_id(0).to(tl.int64) * 3 * C + channel
    tl.store(to, tl.zeros_like(away) + count, mask=real)
    tl.store(to + C, shift.to(tl.float64) + away / count, mask=real)
    squared = tl.sum(squares.to(tl.float64), axis=0)
    tl.store(to + 2 * C, squared - away * away / count, mask=real)


@triton.jit
def finish_moments_kernel(
    mean: tl.tensor,  # [C] float32, written
    rstd: tl.tensor,  # [C] float32, written
    partial: tl.tensor,  # [slices, 3, C] float64
    n: tl.tensor,
    C: tl.tensor,
    slices: tl.tensor,
    eps: tl.tensor,
    CHANNELS: tl.constexpr,
) -> None:
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    total = tl.zeros([CHANNELS], tl.float64)
    for first in tl.range(0, slices, TOGETHER):
        slice_ = first + tl.arange(0, TOGETHER)
        at = slice_[:, None] * 3 * C + channel[None, :]
        there = (slice_ < slices)[:, None] & (channel < C)[None, :]
        count = tl.load(partial + at, mask=there, other=0.0)
        total += tl.sum(count * tl.load(partial + at + C, mask=there, other=0.0), axis=0)
    center = total / n
    squares = tl.zeros([CHANNELS], tl.float64)
    for first in tl.range(0, slices, TOGETHER):
        slice_ = first + tl.arange(0, TOGETHER)
        at = slice_[:, None] * 3 * C + channel[None, :]
        there = (slice_ < slices)[:, None] & (channel < C)[None, :]
        count = tl.load(partial + at, mask=there, other=0.0)
        away = tl.load(partial + at + C, mask=there, other=0.0) - center[None, :]
        own = tl.load(partial + at + 2 * C, mask=there, other=0.0)
        squares += tl.sum(own + count * away * away, axis=0)
    tl.store(mean + channel, center.to(tl.float32), mask=channel < C)
    deviation = root(tl.maximum(squares / n, 0.0) + eps)
    tl.store(rstd + channel, inverse(deviation).to(tl.float32), mask=channel < C)


@triton.jit
def values_kernel(
    y: tl.tensor,  # [n, C], written
    inputs: tl.tuple,  # K of [n, C]
    weight: tl.tensor,  # [K] float32
    mean: tl.tensor,  # [K, C] float32
    rstd: tl.tensor,  # [K, C] float32
    n: tl.tensor,
    C: tl.tensor,
    K: tl.constexpr,
    RELU: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    at, there, channel, real = tile_of(tl.program_id(0) * PIXELS, n, C, PIXELS, CHANNELS)
    total = tl.zeros([PIXELS, CHANNELS], tl.float32)
    for k in tl.static_range(K):
        center = tl.load(mean + k * C + channel, mask=real, other=0.0)
        scale = tl.load(weight + k) * tl.load(rstd + k * C + channel, mask=real, other=0.0)
        x = load(inputs[k] + at, there)
        total += scale[None, :] * (x - center[None, :])
    if RELU:
        total = tl.where(total < 0.0, 0.0, total)
    tl.store(y + at, total, mask=there)


@triton.jit
def products_kernel(
    partial: tl.tensor,  # [slices, 2, C] float64, written: sums of g and g (x - mean)
    grad: tl.tensor,  # [n, C]
    x: tl.tensor,  # [n, C]
    mean: tl.tensor,  # [C] float32
    n: tl.tensor,
    C: tl.tensor,
    per_slice: tl.tensor,
    RELU: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    begin = tl.program_id(0) * per_slice
    end = tl.minimum(begin + per_slice, n)
    total = tl.zeros([PIXELS, CHANNELS], tl.float32)
    products = tl.zeros([PIXELS, CHANNELS], tl.float32)
    at, there, channel, real = tile_of(begin, end, C, PIXELS, CHANNELS)
    center = tl.load(mean + channel, mask=real, other=0.0)
    for first in tl.range(begin, end, PIXELS):
        at, there, channel, real = tile_of(first, end, C, PIXELS, CHANNELS)
        g = load(grad + at, there)
        d = load(x + at, there) - center[None, :]
        if RELU:
            g = tl.where(d > 0.0, g, 0.0)
        total += g
        products += g * d
    to = partial + tl.program_id(0).to(tl.int64) * 2 * C + channel
    tl.store(to, tl.sum(total.to(tl.float64), axis=0), mask=real)
    tl.store(to + C, tl.sum(products.to(tl.float64), axis=0), mask=real)


@triton.jit
def finish_products_kernel(
    slope: tl.tensor,  # [C] float32, written
    offset: tl.tensor,  # [C] float32, written
    along: tl.tensor,  # [C] float64, written: the channel's part of the weight's gradient
    partial: tl.tensor,  # [slices, 2, C] float64
    weight: tl.tensor,  # [1] float32
    rstd: tl.tensor,  # [C] float32
    n: tl.tensor,
    C: tl.tensor,
    slices: tl.tensor,
    CHANNELS: tl.constexpr,
) -> None:
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    real = channel < C
    total = tl.zeros([CHANNELS], tl.float64)
    product = tl.zeros([CHANNELS], tl.float64)
    for first in tl.range(0, slices, TOGETHER):
        slice_ = first + tl.arange(0, TOGETHER)
        at = slice_[:, None] * 2 * C + channel[None, :]
        there = (slice_ < slices)[:, None] & real[None, :]
        total += tl.sum(tl.load(partial + at, mask=there, other=0.0), axis=0)
        product += tl.sum(tl.load(partial + at + C, mask=there, other=0.0), axis=0)
    scale = tl.load(rstd + channel, mask=real, other=0.0).to(tl.float64)
    share = tl.load(weight).to(tl.float64) * scale / n
    tl.store(slope + channel, (-share * scale * scale * product).to(tl.float32), mask=real)
    tl.store(offset + channel, (-share * total).to(tl.float32), mask=real)
    tl.store(along + channel, scale * product, mask=real)


@triton.jit
def gradient_kernel(
    of_x: tl.tensor,  # [n, C], written
    grad: tl.tensor,  # [n, C]
    x: tl.tensor,  # [n, C]
    weight: tl.tensor,  # [1] float32
    mean: tl.tensor,  # [C] float32
    rstd: tl.tensor,  # [C] float32
    slope: tl.tensor,  # [C] float32
    offset: tl.tensor,  # [C] float32
    n: tl.tensor,
    C: tl.tensor,
    NORMED: tl.constexpr,
    RELU: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
) -> None:
    """weight rstd g + slope (x - mean) + offset; weight g of an input that is not normalised."""
    at, there, channel, real = tile_of(tl.program_id(0) * PIXELS, n, C, PIXELS, CHANNELS)
    change = load(grad + at, there)
    scale = tl.load(weight)
    if NORMED:
        center = tl.load(mean + channel, mask=real, other=0.0)
        d = load(x + at, there) - center[None, :]
        if RELU:
            change = tl.where(d > 0.0, change, 0.0)
        change = scale * tl.load(rstd + channel, mask=real, other=0.0)[None, :] * change
        change += tl.load(slope + channel, mask=real, other=0.0)[None, :] * d
        change += tl.load(offset + channel, mask=real, other=0.0)[None, :]
    else:
        change = scale * change
    tl.store(of_x + at, change, mask=there)


class Node(NamedTuple):
    """Inputs [B, C, H, W] that lie pixel after pixel, and how programs share them."""

    inputs: tuple[Tensor, ...]
    n: int
    C: int
    tile: dict[str, int]
    slices: int
    per_slice: int

    @property
    def grid(self) -> tuple[int, int]:
        return triton.cdiv(self.n, self.tile["PIXELS"]), self.chunks

    @property
    def slice_grid(self) -> tuple[int, int]:
        return self.slices, self.chunks

    @property
    def chunks(self) -> int:
        return int(triton.cdiv(self.C, self.tile["CHANNELS"]))


def node_of(inputs: Sequence[Tensor]) -> Node:
    C = inputs[0].shape[1]
    n = inputs[0].numel() // C
    channels = min(triton.next_power_of_2(C), MOST_CHANNELS)
    tile = {"PIXELS": TILE // channels, "CHANNELS": channels}
    tiles = triton.cdiv(n, tile["PIXELS"])
    per_slice = triton.cdiv(tiles, SLICES) * tile["PIXELS"]
    slices = triton.cdiv(n, per_slice)
    return Node(tuple(map(channels_last, inputs)), n, C, tile, slices, per_slice)


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def forward(
    inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float, relu: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The node's value, with a ReLU behind if wanted; mean and rstd [K, C]."""
    node, weight = node_of(inputs), weight.contiguous()
    n, C, K = node.n, node.C, len(inputs)
    y = torch.empty_like(node.inputs[0])
    mean, rstd = weight.new_zeros(K, C), weight.new_ones(K, C)
    partial = weight.new_empty(node.slices, 3, C, dtype=torch.float64)
    with torch.cuda.device_of(weight):
        for k in range(K):
            if normed[k]:
                moments_kernel[node.slice_grid](
                    partial, node.inputs[k], n, C, node.per_slice, **node.tile
                )
                finish_moments_kernel[(node.chunks,)](
                    *(mean[k], rstd[k], partial, n, C, node.slices, eps),
                    CHANNELS=node.tile["CHANNELS"],
                )
        values_kernel[node.grid](
            y, node.inputs, weight, mean, rstd, n, C, K=K, RELU=relu, **node.tile
        )
    return y, mean, rstd


def backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    weight: Tensor,
    normed: Sequence[bool],
    mean: Tensor,
    rstd: Tensor,
    need_inputs: Sequence[bool],
    need_weight: bool,
    relu: bool,
) -> tuple[list[Tensor], Tensor]:
    """The gradients of the inputs that need one, and of the weight, [0] if that needs none."""
    node, weight, grad = node_of(inputs), weight.contiguous(), channels_last(grad)
    n, C, K = node.n, node.C, len(inputs)
    of_inputs = []
    slope, offset = weight.new_empty(2, C).unbind()
    along = weight.new_empty(K, C, dtype=torch.float64)
    partial = weight.new_empty(node.slices, 2, C, dtype=torch.float64)
    with torch.cuda.device_of(weight):
        for k, x in enumerate(node.inputs):
            if need_weight or (normed[k] and need_inputs[k]):
                products_kernel[node.slice_grid](
                    partial, grad, x, mean[k], n, C, node.per_slice, RELU=relu, **node.tile
                )
                finish_products_kernel[(node.chunks,)](
                    *(slope, offset, along[k], partial, weight[k:], rstd[k], n, C, node.slices),
                    CHANNELS=node.tile["CHANNELS"],
                )
            if need_inputs[k]:
                of_inputs.append(torch.empty_like(x))
                gradient_kernel[node.grid](
                    *(of_inputs[-1], grad, x, weight[k:], mean[k], rstd[k], slope, offset, n, C),
                    **({"NORMED": normed[k], "RELU": relu} | node.tile),
                )
    return of_inputs, along.sum(1).to(weight.dtype) if need_weight else weight.new_empty(0)


def node_sum(
    inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See `bdp_ext.ops.node_sum`."""
    return forward(inputs, weight, normed, eps, relu=False)


def node_sum_backward(
    grad: Tensor,
    inputs: Sequence[Tensor],
    weight: Tensor,
    normed: Sequence[bool],
    mean: Tensor,
    rstd: Tensor,
    eps: float,
    need_inputs: Sequence[bool],
    need_weight: bool,
) -> tuple[list[Tensor], Tensor]:
    """See `ops.reference.node_sum_backward`."""
    return backward(grad, inputs, weight, normed, mean, rstd, need_inputs, need_weight, relu=False)
