"""Adaptive subset selection by GLISTER (arXiv 2211.01454): what is kept lowers the validation
loss most."""

import math

import torch
from torch import Tensor

from bdp_ext.pruning import Outputs, Passes, Pruner, required

ROUNDS = 15
"""Greedy rounds, each choosing a 15th of the subset; the GLISTER authors' code has the same."""
STEP = 0.025 / 64
"""Step along the sum of the chosen samples' gradients: what an epoch over them does to first order,
at the usual learning rate and batch size."""


class Glister(Pruner):
    """Keeps the samples whose gradient lowers the validation loss most, chosen anew from all
    samples at each pruning: pruned ones may come back.

    Greedy in rounds, class by class, with the gradients of the last layer and a first-order
    estimate of the gain; after each round the validation gradient is taken again where a step along
    the gradients of all chosen samples leads. Costs a forward pass of all samples of the level and
    of the validation level at each pruning; both levels are chosen by the validation level's loss.

    Source: Prasad et al., "Speeding up NAS with Adaptive Subset Selection" (arXiv 2211.01454);
        Killamsetty et al., GLISTER (arXiv 2012.10630), Alg. 2.
    """

    name = "glister"
    criteria = ("lowest",)
    readmits = True
    features = True

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        passes = required(passes, self.name)
        own, valid = passes.own(samples), passes.valid()
        share = 1 - num_requested / samples.numel()
        score = torch.empty(samples.numel(), device=samples.device)
        for label in own.target.unique().tolist():
            mine, theirs = own.target == label, valid.target == label
            held = _of(valid, theirs if theirs.any() else ~theirs)
            size = int(mine.sum())
            order = greedy(_of(own, mine), held, math.ceil(share * size))
            # The place in its class, so that every class keeps the same share.
            place = torch.empty(size, device=score.device)
            place[order] = torch.arange(size, device=score.device) / size
            score[mine] = -place
        return score


def greedy(own: Outputs, held: Outputs, k: int) -> Tensor:
    """Order samples by what they do for the loss of others.

    Args:
        own: n samples to choose from.
        held: the samples whose loss counts.
        k: how many are chosen in rounds; the rest follows by its gain in the end.

    Returns:
        [n] int64, a permutation, best first.
    """
    slope, x = _slope(own.logits, own.target), _with_one(own.features)
    logits, y = held.logits.float(), _with_one(held.features)
    order = torch.empty(0, dtype=torch.int64, device=x.device)
    size = math.ceil(k / ROUNDS)
    while len(order) < len(x):
        gradient = _slope(logits, held.target).T @ y / len(y)  # [C, D + 1]
        gain = ((slope @ gradient) * x).sum(1)
        gain[order] = -math.inf
        left = k - len(order)
        count = min(size, left) if left > 0 else len(x) - len(order)
        best = gain.argsort(descending=True, stable=True)[:count]
        logits = logits - STEP * y @ (slope[best].T @ x[best]).T
        order = torch.cat([order, best])
    return order


def _slope(logits: Tensor, target: Tensor) -> Tensor:
    """The cross-entropy's gradient by the logits: softmax - onehot, [n, C]."""
    slope: Tensor = logits.float().softmax(1)
    slope[torch.arange(len(target), device=target.device), target] -= 1
    return slope


def _with_one(features: Tensor) -> Tensor:
    """[n, D + 1]: the last entry belongs to the bias."""
    return torch.cat([features.float(), features.new_ones(len(features), 1)], 1)


def _of(outputs: Outputs, mask: Tensor) -> Outputs:
    return Outputs(*(part[mask] for part in outputs))
