"""Proxy data by entropy (arXiv 2106.04784): a sample of the data in which rare entropies are
frequent."""

import torch
from torch import Tensor

from bdp_ext.pruning import Passes, Pruner, required

BINS = 16
"""Of the histogram, over the range of log10(entropy) that is found. The paper's bins, .5 wide on
CIFAR-10, are for a trained network: a young supernet's outputs would share one or two of them."""


class Entropy(Pruner):
    """Keeps samples drawn without replacement, each with the probability

        P1(x) ~ (max_b |b| - |b_x| + 1) / |b_x|

    where |b_x| is the number of samples in the bin of x: the tails of low and of high entropy are
    preferred. Once, by one extra forward pass.

    The paper takes the entropies of a network trained beforehand; here it is the supernet when the
    first pruning is due.

    Source: Na et al., "Accelerating Neural Architecture Search via Proxy Data" (arXiv 2106.04784);
        the probability that they recommend.
    """

    name = "entropy"
    criteria = ("lowest",)
    one_shot = True

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        weight = weights(required(passes, self.name).own(samples).logits)
        # The highest of log(weight) + Gumbel noise are a draw without replacement.
        noise = torch.empty(samples.numel(), dtype=torch.float64)
        noise.exponential_(generator=self.generator).log_()
        return (weight.log() - noise.to(weight.device)).float()


def weights(logits: Tensor) -> Tensor:
    """[n, C] logits -> [n] float64, P1 up to a factor."""
    entropy = torch.special.entr(logits.double().softmax(1)).sum(1)
    height = entropy.clamp(min=1e-12).log10()
    low, high = height.aminmax()
    place = (height - low) / (high - low).clamp(min=1e-12) * BINS
    inside = place.long().clamp(0, BINS - 1)
    count = inside.bincount(minlength=BINS)
    share: Tensor = (count.max() - count + 1).double() / count
    return share[inside]
