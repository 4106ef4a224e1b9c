"""The kernels' one door: `el2n`, `update_voe_`, `voe`, `capped_topk`.

Each function checks its arguments and makes one call into `torch.ops.bdp_ext`; who computes is the
dispatcher's business (compiled C++ on the CPU, CUDA or Triton on a GPU, plain torch elsewhere).
`bdp_ext.backend(...)` forces one. Inputs are read-only unless the name ends in `_`. Nothing here
needs the rest of the package.
"""

import torch
from torch import Tensor

from bdp_ext._backend import implementation

LOGIT_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LABEL_DTYPES = (torch.int64, torch.int32, torch.int16)


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
    _check_logits("el2n", logits, target)
    scores: Tensor = implementation("el2n", logits)(logits.detach(), target)
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
    _check_logits("update_voe_", logits, target)
    _check("update_voe_", "window", window, 2, (torch.float32,), logits)
    _check("update_voe_", "voe", voe, 1, (torch.float32,), logits)
    _check("update_voe_", "index", index, 1, (torch.int64,), logits)
    _check_length("update_voe_", "index", index, logits.shape[0], "row of logits")
    _check_length("update_voe_", "voe", voe, window.shape[1], "column of window")
    if not (window.is_contiguous() and voe.is_contiguous()):
        raise ValueError("update_voe_: window and voe are written in place and must be contiguous.")
    if not 0 <= slot < window.shape[0]:
        raise ValueError(f"update_voe_: slot must be in [0, {window.shape[0]}), got {slot}.")
    implementation("update_voe_", logits)(window, voe, slot, index, logits.detach(), target)


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
    _check("voe", "window", window, 2, (torch.float32,), window)
    variance: Tensor = implementation("voe", window)(window)
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
    _check("capped_topk", "score", score, 1, (torch.float32,), score)
    _check("capped_topk", "label", label, 1, LABEL_DTYPES, score)
    _check("capped_topk", "cap", cap, 1, (torch.int64,), score)
    _check_length("capped_topk", "label", label, score.shape[0], "score")
    if k < 0:
        raise ValueError(f"capped_topk: k must be >= 0, got {k}.")
    mask, taken = implementation("capped_topk", score)(score.detach(), label, cap, k, largest)
    return mask, taken


def _check_logits(op: str, logits: Tensor, target: Tensor) -> None:
    _check(op, "logits", logits, 2, LOGIT_DTYPES, logits)
    _check(op, "target", target, 1, (torch.int64,), logits)
    _check_length(op, "target", target, logits.shape[0], "row of logits")


def _check(
    op: str, name: str, value: Tensor, dims: int, dtypes: tuple[torch.dtype, ...], like: Tensor
) -> None:
    if value.dim() == dims and value.dtype in dtypes and value.device == like.device:
        return
    kinds = " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
    raise ValueError(
        f"{op}: {name} must be a {dims}-d {kinds} tensor on {like.device}, "
        f"got {list(value.shape)} {str(value.dtype).removeprefix('torch.')} on {value.device}."
    )


def _check_length(op: str, name: str, value: Tensor, length: int, each: str) -> None:
    if value.shape[0] != length:
        raise ValueError(
            f"{op}: {name} must have one entry per {each} ({length}), got {value.shape[0]}."
        )
