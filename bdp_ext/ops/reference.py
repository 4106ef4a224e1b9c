"""The operations in plain torch: the fallback on any device and the plain form to read first.

Arguments are those of `bdp_ext.ops`, already checked by `checks.py`. Formulas: `el2n` is BDP's
Eq. 3 rearranged so that nothing cancels, `voe` is Eq. 4, `capped_topk` takes the caps of Eq. 6;
`node_sum` is Eq. 1 over all edges of a node, its batch norms included.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def el2n(logits: Tensor, target: Tensor) -> Tensor:
    """See `bdp_ext.ops.el2n`.

    With m the largest logit of the other classes, s1 = sum exp(z_j - m) and s2 = sum exp(2 (z_j -
    m)) over them, and t = exp(m - z_y):  s = sqrt(s1^2 + s2) * t / (s1 * t + 1).  The obvious
    softmax - onehot loses every digit once z_y - m passes 15, and those are the samples whose order
    decides what is pruned.
    """
    rows, classes = logits.shape
    if rows == 0 or classes == 0:
        return logits.new_full((rows,), float("nan"), dtype=torch.float32)
    z = logits.detach().double()
    valid = (target >= 0) & (target < classes)
    own_class = target.clamp(0, classes - 1).unsqueeze(1)
    own = z.gather(1, own_class).squeeze(1)
    rivals = z.scatter(1, own_class, float("-inf"))
    top = rivals.amax(1)
    # A row without a finite rival is certain of its class: exp(-inf - own) = 0 gives s = 0.
    anchor = top.where(top > float("-inf"), own)
    e = (rivals - anchor.unsqueeze(1)).exp()
    s1, s2 = e.sum(1), e.square().sum(1)
    margin = own - anchor
    length = (s1.square() + s2).sqrt()
    t = (-margin.abs()).exp()
    score = torch.where(margin > 0, length * t / (s1 * t + 1), length / (s1 + t))
    valid &= torch.isfinite(z.amax(1))  # false for NaN, +inf, and for a row of -inf alone
    return score.where(valid, float("nan")).float()


def voe(window: Tensor) -> Tensor:
    """See `bdp_ext.ops.voe`. Shifting by one of the scores makes a constant window exactly 0."""
    if window.numel() == 0:
        return window.new_full(window.shape[1:], float("nan"))
    known = ~window.isnan()
    count = known.sum(0)
    shift = window.gather(0, known.int().argmax(0, keepdim=True))
    deviation = (window - shift).where(known, 0.0)
    mean = deviation.sum(0) / count
    variance = (deviation - mean).where(known, 0.0).square().sum(0) / count
    return variance.where(count >= 2, float("nan"))


def update_voe_(
    window: Tensor, voe_: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    """See `bdp_ext.ops.update_voe_`."""
    if index.numel() == 0:
        return
    if int(index.max()) >= window.shape[1]:
        raise IndexError(f"update_voe_: index {int(index.max())} of {window.shape[1]} samples")
    order = index.argsort(stable=True)
    ordered = index[order]
    last = torch.ones_like(ordered, dtype=torch.bool)
    last[:-1] = ordered[1:] != ordered[:-1]
    rows = order[last & (ordered >= 0)]
    sample = index[rows]
    window[slot, sample] = el2n(logits[rows], target[rows])
    voe_[sample] = voe(window[:, sample])


def capped_topk(
    score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool
) -> tuple[Tensor, Tensor]:
    """See `bdp_ext.ops.capped_topk`. Greedy over the sorted order is exact."""
    score = score.detach()
    samples = score.shape[0]
    mask = torch.zeros(samples, dtype=torch.bool, device=score.device)
    if samples == 0 or cap.numel() == 0:
        return mask, torch.zeros((), dtype=torch.int64, device=score.device)
    unknown = score.isnan()
    # + 0.0 turns -0 into +0, so that their tie goes to the lower index like any other.
    order = (score.where(~unknown, 0.0) + 0.0).argsort(descending=largest, stable=True)
    order = order[unknown[order].byte().argsort(stable=True)]
    ranked_label = label[order].long()
    by_class = ranked_label.argsort(stable=True)
    class_of = ranked_label[by_class]
    position = torch.arange(samples, device=score.device)
    first = torch.searchsorted(class_of, class_of)
    rank_in_class = torch.empty_like(position)
    rank_in_class[by_class] = position - first
    valid = (ranked_label >= 0) & (ranked_label < cap.numel())
    allowed = valid & (rank_in_class < cap[ranked_label.clamp(0, cap.numel() - 1)])
    mask[order] = allowed & (allowed.cumsum(0) <= k)
    return mask, mask.sum()


def depthwise_conv2d(
    input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> Tensor:
    """See `bdp_ext.ops.depthwise_conv2d`."""
    groups = weight.shape[0]
    output = torch.nn.functional.conv2d(input, weight, None, stride, padding, dilation, groups)
    return output.contiguous(memory_format=torch.channels_last)


def depthwise_conv2d_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    need_input: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    """The gradients of `depthwise_conv2d` with respect to input and weight; an empty tensor in
    place of one that is not needed."""
    geometry = (stride, padding, dilation)
    return _convolution_backward(grad, input, weight, geometry, need_input, need_weight)


def conv3x3(input: Tensor, weight: Tensor) -> Tensor:
    """See `bdp_ext.ops.conv3x3`."""
    output = torch.nn.functional.conv2d(input, weight, padding=1)
    return output.contiguous(memory_format=torch.channels_last)


def conv3x3_backward(
    grad: Tensor, input: Tensor, weight: Tensor, need_input: bool, need_weight: bool
) -> tuple[Tensor, Tensor]:
    """The gradients of `conv3x3`, likewise, that of the weight in its memory format."""
    grad_input, grad_weight = _convolution_backward(
        grad, input, weight, (1, 1, 1), need_input, need_weight
    )
    if need_weight:
        grad_weight = torch.empty_like(weight).copy_(grad_weight)
    return grad_input, grad_weight


def _convolution_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    geometry: tuple[int, int, int],
    need_input: bool,
    need_weight: bool,
) -> tuple[Tensor, Tensor]:
    """geometry: stride, padding, dilation."""
    strides, groups = ([size] * 2 for size in geometry), input.shape[1] // weight.shape[1]
    grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
        *(grad, input, weight, None, *strides, False, [0, 0], groups),
        [need_input, need_weight, False],
    )
    return (
        _like(grad_input, input) if need_input else input.new_empty(0),
        grad_weight.contiguous() if need_weight else weight.new_empty(0),
    )


def moments(inputs: Sequence[Tensor], normed: Sequence[bool], eps: float) -> tuple[Tensor, Tensor]:
    """Mean and 1 / standard deviation of each input's channels, [K, C]; 0 and 1 where it is not
    normalised, so that every input enters as (x - mean) * rstd. Inputs are at least float32."""
    means, rstds = [], []
    for x, norm in zip(inputs, normed, strict=True):
        mean = x.new_zeros(x.shape[1])
        rstd = x.new_ones(x.shape[1])
        if norm:
            mean = x.mean((0, 2, 3))
            rstd = ((x - _spread(mean)).square().mean((0, 2, 3)) + eps).rsqrt()
        means.append(mean)
        rstds.append(rstd)
    return torch.stack(means), torch.stack(rstds)


def node_sum(
    inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """See `bdp_ext.ops.node_sum`. Also returns what backward needs: mean and rstd, [K, C]."""
    xs = [wide(x) for x in inputs]  # once: so gradients are rounded once
    mean, rstd = moments(xs, normed, eps)
    total = torch.zeros_like(mean[0, 0])
    for k, x in enumerate(xs):
        total = total + _spread(weight[k] * rstd[k]) * (x - _spread(mean[k]))
    return _like(total, inputs[0]), mean, rstd


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
    """The gradients of `node_sum`, given that of its output: of the inputs that need one, in their
    order, and of the weight ([0] where it needs none).

    With n pixels, h = (x_k - mean_k) rstd_k and <a> the sum of a over a channel's pixels:

        d weight_k = sum over channels of <g h>
        d x_k      = weight_k rstd_k (g - <g> / n - h <g h> / n),   weight_k g if not normalised

    `eps` is not read: only the gradient of this gradient needs it.
    """
    g = wide(grad)
    pixels = g[:, 0].numel()
    of_inputs, of_weight = [], []
    for k, x in enumerate(inputs):
        h = _spread(rstd[k]) * (wide(x) - _spread(mean[k]))
        product = (g * h).sum((0, 2, 3))
        of_weight.append(product.sum())
        if need_inputs[k]:
            change = g
            if normed[k]:
                change = g - _spread(g.sum((0, 2, 3)) / pixels) - h * _spread(product / pixels)
            of_inputs.append(_like(_spread(weight[k] * rstd[k]) * change, x))
    return of_inputs, torch.stack(of_weight) if need_weight else weight.new_empty(0)


def norm_relu(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """See `bdp_ext.ops.norm_relu`. Also returns what backward needs: mean and rstd, [C]."""
    h = wide(x)
    mean, rstd = (moment[0] for moment in moments([h], [True], eps))
    return _like((_spread(rstd) * (h - _spread(mean))).relu(), x), mean, rstd


def norm_relu_backward(grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, eps: float) -> Tensor:
    """The gradient of `norm_relu`: that of its batch norm, for the gradients that pass the ReLU.
    Only the gradient of this gradient needs `eps`."""
    g = wide(grad) * (x > _spread(mean))
    one = mean.new_ones(1)
    (of_x,), _ = node_sum_backward(
        g, [x], one, [True], mean[None], rstd[None], eps, need_inputs=[True], need_weight=False
    )
    return of_x


def wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _spread(channels: Tensor) -> Tensor:
    """[C] -> [C, 1, 1], beside [B, C, H, W]."""
    return channels[:, None, None]


def _like(value: Tensor, x: Tensor) -> Tensor:
    """In the type of x, and channels last."""
    return value.to(x.dtype).contiguous(memory_format=torch.channels_last)
