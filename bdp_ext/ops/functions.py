"""The documented functions: each makes one call. `bdp_ext.ops` hands them on."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from bdp_ext.ops import checks, reference
from bdp_ext.ops.backend import implementation


def el2n(logits: Tensor, target: Tensor) -> Tensor:
    """Error L2-norm of each row: the distance between its softmax and the one-hot target.

    Accurate to 1e-6 relative at any margin, where `(softmax - onehot).norm()` loses all digits of
    confident rows.

    Args:
        logits: [B, C] float32, float16 or bfloat16. Read detached. -inf is legal (probability 0).
        target: [B] int64, the class of each row.

    Returns:
        [B] float32 in [0, sqrt(2)]. NaN for a row that holds NaN or +inf or nothing but -inf, and
        where the target is outside [0, C) (an `ignore_index`, say).

    Raises:
        ValueError: wrong shape, dtype or device (names the argument and what it got).

    Source: BDP (arXiv 2312.14200), Eq. 3; EL2N is due to Paul et al. 2021.
    """
    try:
        scores: Tensor = implementation("el2n", logits)(logits, target)
    except RuntimeError:
        checks.el2n(logits, target)  # says what is wrong with an argument, if that is it
        raise
    return scores


def update_voe_(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    """Score a batch, write the scores into the ring and renew those samples' VoE, in one pass and
    in place.

    For row b with sample i = index[b] >= 0: window[slot, i] = el2n(logits[b], target[b]) and voe[i]
    is the variance of the known scores in window[:, i].

    Args:
        window: [K, N] float32, contiguous, written. The last K scores of N samples, NaN where
            unknown.
        voe: [N] float32, contiguous, written.
        slot: the window's row of this epoch, 0 <= slot < K.
        index: [B] int64, which sample each row is. Negative: the row is skipped. Where a sample
            stands twice, the last row wins.
        logits: [B, C] float32, float16 or bfloat16. Read detached.
        target: [B] int64.

    Raises:
        ValueError: wrong shape, dtype, device or slot (names the argument and what it got).
        IndexError: an index >= N, on the CPU and before anything is written. A GPU does not look
            (that would stall the stream); it skips such a row.

    Source: BDP (arXiv 2312.14200), Eq. 3 and 4.
    """
    try:
        implementation("update_voe_", logits)(window, voe, slot, index, logits, target)
    except RuntimeError:
        checks.update_voe_(window, voe, slot, index, logits, target)
        raise


def voe(window: Tensor) -> Tensor:
    """Variance of Error: the variance of each sample's last K scores.

    Computed from the scores themselves, shifted by one of them, in two passes: a constant window
    gives exactly 0.

    Args:
        window: [K, N] float32, the ring of EL2N scores, NaN where a sample was not seen. Unitless.

    Returns:
        [N] float32, >= 0 (divisor: the number of known scores); NaN where fewer than two scores are
        known.

    Raises:
        ValueError: wrong shape or dtype (names the argument and what it got).

    Source: BDP (arXiv 2312.14200), Eq. 4.
    """
    try:
        variance: Tensor = implementation("voe", window)(window)
    except RuntimeError:
        checks.voe(window)
        raise
    return variance


def capped_topk(
    score: Tensor, label: Tensor, cap: Tensor, k: int, *, largest: bool
) -> tuple[Tensor, Tensor]:
    """The k most extreme samples such that no class gives more than its cap. Exact and
    deterministic.

    The set is that of a greedy walk over the sorted order. Ties go to the lower index, -0 equals
    +0, NaN ranks last in both directions. When the caps leave fewer than k, that many are taken.

    Args:
        score: [N] float32.
        label: [N] int64, int32 or int16. A label outside [0, C) is never taken.
        cap: [C] int64, the most each class may give; a negative cap is 0.
        k: how many to take in all, >= 0.
        largest: take the largest scores instead of the smallest.

    Returns:
        mask: [N] bool, true where taken.
        taken: [] int64, how many; on the device of `score`, so nothing waits for it.

    Raises:
        ValueError: wrong shape, dtype, device or k (names the argument and what it got).

    Source: BDP (arXiv 2312.14200), Sec. 3.2.3 and 3.2.4.
    """
    try:
        mask, taken = implementation("capped_topk", score)(score, label, cap, k, largest)
    except RuntimeError:
        checks.capped_topk(score, label, cap, k, largest)
        raise
    return mask, taken


def depthwise_conv2d(
    input: Tensor, weight: Tensor, stride: int = 1, padding: int | None = None, dilation: int = 1
) -> Tensor:
    """A convolution of each channel with its own kernel, in channels_last. Differentiable, twice
    and more.

    On the CPU, float32 with a kernel of 3 or 5, stride 1 or 2 and dilation 1 or 2 is computed here;
    all else is torch's convolution. The weight gradient is summed in float64 in an order that does
    not depend on the number of threads.

    Args:
        input: [B, C, H, W], floating point. Another memory format than channels_last costs a copy.
        weight: [C, 1, k, k], dtype of `input`.
        stride, dilation: in both directions, >= 1.
        padding: zeros on each side, >= 0; None: dilation * (k // 2), which keeps H and W at stride
            1.

    Returns:
        [B, C, H', W'] in channels_last, where H' = (H + 2 padding - dilation (k - 1) - 1) // stride
        + 1.

    Raises:
        ValueError: wrong shape, dtype, device or geometry (names the argument and what it got).
    """
    op = "depthwise_conv2d"
    padding = _same(weight, dilation) if padding is None else padding
    checks.depthwise_conv2d(input, weight, stride, padding, dilation)
    run = _implementation(op, input, has_depthwise_conv2d(weight, stride, dilation))
    output: Tensor = run(input, weight, stride, padding, dilation)
    return output


def depthwise_conv2d_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    *,
    need_input: bool = True,
    need_weight: bool = True,
) -> tuple[Tensor, Tensor]:
    """The gradients of `depthwise_conv2d`; its autograd calls this. Differentiable.

    Args:
        grad: [B, C, H', W'], the gradient of the output.
        input, weight, stride, padding, dilation: as there.
        need_input, need_weight: which gradients to compute.

    Returns:
        The gradients of the input, in channels_last, and of the weight; [0] in place of one that is
        not needed.

    Raises:
        ValueError: wrong shape, dtype, device or geometry (names the argument and what it got).
    """
    op = "depthwise_conv2d_backward"
    padding = _same(weight, dilation) if padding is None else padding
    checks.depthwise_conv2d_backward(
        grad, input, weight, stride, padding, dilation, need_input, need_weight
    )
    run = _implementation(op, input, has_depthwise_conv2d(weight, stride, dilation))
    grad_input, grad_weight = run(
        grad, input, weight, stride, padding, dilation, need_input, need_weight
    )
    return grad_input, grad_weight


def conv3x3(input: Tensor, weight: Tensor) -> Tensor:
    """A convolution with a kernel of 3, stride 1 and a padding of 1 that mixes all channels, in
    channels_last. Differentiable, twice and more.

    On the CPU, float32 with channels in multiples of 16 (up to 512 to 512) is computed here, by
    Winograd's F(4x4, 3x3) with a quarter of the multiplications; all else is torch's convolution.
    With 16 to 64 channels output and gradients are then off by 5e-7 to 9e-7 of their norm, where
    the plain sum is off by 2e-7 to 4e-7, in the weight gradient by up to 1e-6; with 512 channels
    by 2e-6. An infinity or NaN spreads over the 4x4 outputs that are computed together. No result
    depends on the number of threads.

    Args:
        input: [B, I, H, W], floating point. Another memory format than channels_last costs a copy.
        weight: [O, I, 3, 3], dtype of `input`, in any memory format.

    Returns:
        [B, O, H, W] in channels_last.

    Raises:
        ValueError: wrong shape, dtype or device (names the argument and what it got).

    Source: Lavin and Gray 2015 (arXiv 1509.09308); the points are ours (csrc/cpu/conv3x3_kernel.h).
    """
    op = "conv3x3"
    checks.conv3x3(input, weight)
    output: Tensor = _implementation(op, input, has_conv3x3(weight))(input, weight)
    return output


def conv3x3_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    *,
    need_input: bool = True,
    need_weight: bool = True,
) -> tuple[Tensor, Tensor]:
    """The gradients of `conv3x3`; its autograd calls this. Differentiable.

    Args:
        grad: [B, O, H, W], the gradient of the output.
        input, weight: as there.
        need_input, need_weight: which gradients to compute.

    Returns:
        The gradients of the input, in channels_last, and of the weight, in its memory format; [0]
        in place of one that is not needed.

    Raises:
        ValueError: wrong shape, dtype or device (names the argument and what it got).
    """
    op = "conv3x3_backward"
    checks.conv3x3_backward(grad, input, weight, need_input, need_weight)
    run = _implementation(op, input, has_conv3x3(weight))
    grad_input, grad_weight = run(grad, input, weight, need_input, need_weight)
    return grad_input, grad_weight


def node_sum(
    inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float = 1e-5
) -> Tensor:
    """A node of a supernet: the weighted sum of what its edges' candidates give, each batch norm
    (without affine, with the batch's statistics) taken on the way.

        y = sum_k weight[k] * (batch_norm(inputs[k]) if normed[k] else inputs[k])

    One pass over the inputs for their moments, one that writes y; backward likewise, with one
    gradient for the whole node. Of a node only the inputs, their means and their deviations are
    kept: no normalised value is. Differentiable in `inputs` and `weight`, any number of times
    (from the second on in plain torch); what needs no gradient costs nothing.

    Args:
        inputs: K tensors [B, C, H, W] of one shape and dtype: float32, float16 or bfloat16, whose
            sums are float32, or float64, which plain torch computes. Channels last is read as it
            lies, anything else is copied. On a CPU half costs copies as well.
        weight: [K] float32: softmax(alpha), say. With float64 inputs it may be float64.
        normed: K flags.
        eps: added to the variance.

    Returns:
        [B, C, H, W] of the inputs' dtype, channels last. So are the inputs' gradients; the weight's
        has the weight's dtype.

    Raises:
        ValueError: wrong shape, dtype, device or number (names the argument and what it got).

    Source: DARTS (arXiv 1806.09055), Eq. 2, summed over a node's edges; batch norm is Ioffe and
    Szegedy 2015 (arXiv 1502.03167), Algorithm 1, with gamma = 1 and beta = 0.
    """
    inputs, normed = list(inputs), list(normed)
    checks.node_sum(inputs, weight, normed, eps)
    run = _implementation("node_sum", inputs[0])
    y: Tensor = run(inputs, weight, normed, eps)[0]
    return y


def norm_relu(x: Tensor, eps: float = 1e-5) -> Tensor:
    """relu(batch_norm(x)) without affine, with the batch's statistics: what stands between the two
    halves of a separable convolution.

    Backward keeps x, its mean and its deviation, and computes again which values passed the ReLU.
    Differentiable any number of times.

    Args:
        x: [B, C, H, W]; dtypes and layout as for `node_sum`.
        eps: added to the variance.

    Returns:
        [B, C, H, W] of the dtype of x, channels last.

    Raises:
        ValueError: wrong shape or dtype (names the argument and what it got).
    """
    return norm_relu_with_moments(x, eps)[0]


def norm_relu_with_moments(x: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor, Tensor]:
    """`norm_relu`, and each channel's mean [C] and 1 / deviation [C], for an autograd function that
    calls `norm_relu_backward` itself."""
    checks.norm_relu(x, eps)
    y, mean, rstd = _implementation("norm_relu", x)(x, eps)
    return y, mean, rstd


def norm_relu_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, eps: float = 1e-5
) -> Tensor:
    """The gradient of `norm_relu` for x, from that of its result, both [B, C, H, W] of one dtype,
    and the moments that `norm_relu_with_moments` gave: float32, or float64 beside float64."""
    of_x: Tensor = _implementation("norm_relu_backward", x)(grad, x, mean, rstd, eps)
    return of_x


def has_depthwise_conv2d(weight: Tensor, stride: int, dilation: int) -> bool:
    """Whether the CPU has a kernel for it, in float32."""
    return (
        weight.dtype == torch.float32
        and weight.shape[2] in (3, 5)
        and stride in (1, 2)
        and dilation in (1, 2)
    )


def has_conv3x3(weight: Tensor) -> bool:
    """Whether the CPU has a kernel for these channels, in float32."""
    outputs, inputs = weight.shape[:2]
    fits = inputs % 16 == outputs % 16 == 0 and 0 < inputs * outputs <= 512 * 512
    return fits and weight.dtype == torch.float32


def _implementation(op: str, like: Tensor, has_kernel: bool = True) -> Callable[..., Any]:
    """What has no kernel is plain torch's, float64 always."""
    if has_kernel and like.dtype != torch.float64:
        return implementation(op, like)
    return getattr(reference, op)  # type: ignore[no-any-return]


def _same(weight: Tensor, dilation: int) -> int:
    """The padding that keeps height and width at stride 1."""
    return dilation * (weight.shape[-1] // 2)
