"""Several processes, each of which saw its own samples: one set of scores for all."""

import torch
from torch import Tensor, distributed

from bdp_ext import ops
from bdp_ext.pruning import ErrorWindow


def merge(window: ErrorWindow) -> None:
    """Give every rank the scores that the others recorded this epoch; does nothing in a single
    process.

    Where several ranks scored a sample (a sampler that pads), the lowest score counts, so that
    every rank then prunes the same samples.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return
    if distributed.get_world_size() == 1:
        return
    scores: Tensor = window.scores[window.slot]
    merged = scores.nan_to_num(nan=float("inf"))
    if distributed.get_backend() == "nccl":
        merged = merged.cuda()
    distributed.all_reduce(merged, distributed.ReduceOp.MIN)
    merged = merged.to(scores.device)
    merged[merged.isinf()] = float("nan")
    changed = ~torch.eq(merged, scores) & ~merged.isnan()
    window.scores[window.slot] = merged
    window.voe[changed] = ops.voe(window.scores[:, changed])
