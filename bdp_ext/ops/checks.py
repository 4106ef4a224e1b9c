"""What each operation asks of its arguments, and the sentence for who gives something else.

A function has the operation's name and arguments and raises ValueError. Python implementations and
fake kernels call it before they run. Compiled ones check for themselves, which costs nanoseconds
where this costs microseconds, and `functions.py` asks here what was wrong once they refuse.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

LOGIT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LABEL_DTYPES = (torch.int64, torch.int32, torch.int16)
FLOAT_DTYPES = (*LOGIT_DTYPES, torch.float64)


def el2n(logits: Tensor, target: Tensor) -> None:
    _logits("el2n", logits, target)


def update_voe_(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    _logits("update_voe_", logits, target)
    _tensor("update_voe_", "window", window, 2, (torch.float32,), logits)
    _tensor("update_voe_", "voe", voe, 1, (torch.float32,), logits)
    _tensor("update_voe_", "index", index, 1, (torch.int64,), logits)
    _length("update_voe_", "index", index, logits.shape[0], "row of logits")
    _length("update_voe_", "voe", voe, window.shape[1], "column of window")
    if not (window.is_contiguous() and voe.is_contiguous()):
        raise ValueError("update_voe_: window and voe are written in place and must be contiguous.")
    if not 0 <= slot < window.shape[0]:
        raise ValueError(f"update_voe_: slot must be in [0, {window.shape[0]}), got {slot}.")


def voe(window: Tensor) -> None:
    _tensor("voe", "window", window, 2, (torch.float32,), window)


def capped_topk(score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool) -> None:
    _tensor("capped_topk", "score", score, 1, (torch.float32,), score)
    _tensor("capped_topk", "label", label, 1, LABEL_DTYPES, score)
    _tensor("capped_topk", "cap", cap, 1, (torch.int64,), score)
    _length("capped_topk", "label", label, score.shape[0], "score")
    if k < 0:
        raise ValueError(f"capped_topk: k must be >= 0, got {k}.")


def depthwise_conv2d(
    input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> None:
    _convolution("depthwise_conv2d", input, weight, stride, padding, dilation)


def depthwise_conv2d_backward(
    grad: Tensor,
    input: Tensor,
    weight: Tensor,
    stride: int,
    padding: int,
    dilation: int,
    need_input: bool,
    need_weight: bool,
) -> None:
    op = "depthwise_conv2d_backward"
    _grad(op, grad, input, _convolution(op, input, weight, stride, padding, dilation))


def conv3x3(input: Tensor, weight: Tensor) -> None:
    _conv3x3("conv3x3", input, weight)


def conv3x3_backward(
    grad: Tensor, input: Tensor, weight: Tensor, need_input: bool, need_weight: bool
) -> None:
    op = "conv3x3_backward"
    _grad(op, grad, input, _conv3x3(op, input, weight))


def node_sum(inputs: Sequence[Tensor], weight: Tensor, normed: Sequence[bool], eps: float) -> None:
    if not inputs or len(normed) != len(inputs):
        raise ValueError(
            "node_sum: there must be at least one input and one flag of normed for each, got "
            f"{len(inputs)} inputs and {len(normed)} flags."
        )
    first = inputs[0]
    _image("node_sum", "inputs[0]", first)
    for k, x in enumerate(inputs):
        _tensor("node_sum", f"inputs[{k}]", x, 4, (first.dtype,), first)
        if x.shape != first.shape:
            raise ValueError(
                f"node_sum: inputs must have the same shape, got {list(first.shape)} and "
                f"{list(x.shape)} at {k}."
            )
    wide = (torch.float64,) if first.dtype == torch.float64 else ()
    _tensor("node_sum", "weight", weight, 1, (torch.float32, *wide), first)
    _length("node_sum", "weight", weight, len(inputs), "input")


def norm_relu(x: Tensor, eps: float) -> None:
    _image("norm_relu", "x", x)


def _image(op: str, name: str, x: Tensor) -> None:
    _tensor(op, name, x, 4, FLOAT_DTYPES, x)
    if x.numel() == 0:
        raise ValueError(f"{op}: {name} must not be empty, got {list(x.shape)}.")


def _convolution(
    op: str, input: Tensor, weight: Tensor, stride: int, padding: int, dilation: int
) -> list[int]:
    """The output's size."""
    _tensor(op, "input", input, 4, FLOAT_DTYPES, input)
    _tensor(op, "weight", weight, 4, (input.dtype,), input)
    kernel = weight.shape[2]
    if kernel < 1 or list(weight.shape) != [input.shape[1], 1, kernel, kernel]:
        raise ValueError(
            f"{op}: weight must be [{input.shape[1]}, 1, k, k], got {list(weight.shape)}."
        )
    if stride < 1 or dilation < 1 or padding < 0:
        raise ValueError(
            f"{op}: stride and dilation must be >= 1 and padding >= 0, got {stride}, {dilation} "
            f"and {padding}."
        )
    rest = 2 * padding - dilation * (kernel - 1) - 1
    height, width = ((size + rest) // stride + 1 for size in input.shape[2:])
    if min(height, width) < 1:
        raise ValueError(
            f"{op}: a kernel of {kernel} with dilation {dilation} is larger than the padded input "
            f"of {list(input.shape)} (padding {padding})."
        )
    return [*input.shape[:2], height, width]


def _conv3x3(op: str, input: Tensor, weight: Tensor) -> list[int]:
    """The output's size."""
    _tensor(op, "input", input, 4, FLOAT_DTYPES, input)
    _tensor(op, "weight", weight, 4, (input.dtype,), input)
    batch, channels, height, width = input.shape
    if list(weight.shape[1:]) != [channels, 3, 3]:
        raise ValueError(f"{op}: weight must be [O, {channels}, 3, 3], got {list(weight.shape)}.")
    if min(height, width) < 1:
        raise ValueError(f"{op}: input must have height and width, got {list(input.shape)}.")
    return [batch, weight.shape[0], height, width]


def _grad(op: str, grad: Tensor, input: Tensor, size: list[int]) -> None:
    _tensor(op, "grad", grad, 4, (input.dtype,), input)
    if list(grad.shape) != size:
        raise ValueError(f"{op}: grad must be {size}, as the output, got {list(grad.shape)}.")


def _logits(op: str, logits: Tensor, target: Tensor) -> None:
    _tensor(op, "logits", logits, 2, LOGIT_DTYPES, logits)
    _tensor(op, "target", target, 1, (torch.int64,), logits)
    _length(op, "target", target, logits.shape[0], "row of logits")


def _tensor(
    op: str, name: str, value: Tensor, dims: int, dtypes: tuple[torch.dtype, ...], like: Tensor
) -> None:
    if value.dim() == dims and value.dtype in dtypes and value.device == like.device:
        return
    kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    raise ValueError(
        f"{op}: {name} must be a {dims}-d {kinds} tensor on {like.device}, "
        f"got {list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}."
    )


def _length(op: str, name: str, value: Tensor, length: int, each: str) -> None:
    if value.shape[0] != length:
        raise ValueError(
            f"{op}: {name} must have one entry per {each} ({length}), got {value.shape[0]}."
        )
