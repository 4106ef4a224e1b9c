"""What each operation asks of its arguments, and the sentence for who gives something else.

A function has the operation's name and arguments and raises ValueError. Python implementations and
fake kernels call it before they run. Compiled ones check for themselves, which costs nanoseconds
where this costs microseconds, and `ops.py` asks here what was wrong once they refuse.
"""

import torch
from torch import Tensor

LOGIT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LABEL_DTYPES = (torch.int64, torch.int32, torch.int16)


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
