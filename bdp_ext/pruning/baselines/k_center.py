"""Core-set by greedy k-center (arXiv 2107.06869): what is kept covers the data."""

import torch
from torch import Tensor

from bdp_ext.pruning import Passes, Pruner, required


class KCenter(Pruner):
    """Keeps k samples such that no sample's features are far from those of a kept one. Once, by one
    extra forward pass.

    Greedy: begins with the sample nearest to the mean and adds the one farthest from all chosen;
    within twice the smallest possible radius. The features are the input of the supernet's last
    layer when the first pruning is due. Where class caps keep more than k samples, those farthest
    from the centres stay.

    Source: Shim, Kong, Kang, "Core-set Sampling for Efficient Neural Architecture Search" (arXiv
        2107.06869); the algorithm is Sener, Savarese (arXiv 1708.00489), Alg. 1.
    """

    name = "k-center"
    criteria = ("lowest",)
    one_shot = True
    features = True

    def score(self, samples: Tensor, num_requested: int, passes: Passes | None) -> Tensor:
        outputs = required(passes, self.name).own(samples)
        return k_center(outputs.features.float(), max(1, samples.numel() - num_requested))


def k_center(x: Tensor, k: int) -> Tensor:
    """Order points by what they add to a greedy k-center.

    Args:
        x: [n, D] float32.
        k: centres, in 1..n.

    Returns:
        [n] float32: k for the first centre, down to 1 for the k-th; for the others their distance
        to the nearest centre as a share of the largest one, below 1.
    """
    score = torch.zeros(len(x), device=x.device)
    nearest = torch.full_like(score, float("inf"))
    centre = distance(x, x.mean(0)).argmin()
    for rank in range(k, 0, -1):
        score[centre] = rank
        nearest = nearest.minimum(distance(x, x[centre]))
        nearest[centre] = -1  # is not chosen again, among duplicates too
        centre = nearest.argmax()
    others = score == 0
    return torch.where(others, nearest / (nearest.max().clamp(min=1e-12) * 1.001), score)


def distance(x: Tensor, point: Tensor) -> Tensor:
    """[n, D] and [D] -> [n] Euclidean distances."""
    # Not by matrix product: |x|^2 - 2 x.c + |c|^2 has no digits left for near points.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(x, point[None], compute_mode=mode).squeeze(1)
