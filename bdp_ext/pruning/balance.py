"""How balanced a set's classes are, and how many samples of a class one pruning may take."""

from collections.abc import Callable

import torch
from torch import Tensor

CapsExpression = Callable[[Tensor, float, int], Tensor]
"""(counts [C] int64, balance degree b in [0, 1], number of prunings m) -> N_i [C] int64."""


def balance_degree(counts: Tensor) -> float:
    """Mean over the pairs of classes of the smaller class's size over the larger one's.

    Args:
        counts: [C] int64, the samples of each class. Two empty classes count as equal.

    Returns:
        b in [0, 1]: 1 when all classes are of one size (or there are fewer than two).

    Source: BDP (arXiv 2312.14200), Eq. 5. Sorted ascending, the sum over pairs is sum_j prefix_j /
        n_j: O(C log C).
    """
    classes = counts.numel()
    if classes < 2:
        return 1.0
    sizes = counts.sort().values.double()
    prefix = sizes.cumsum(0) - sizes
    ratios = torch.where(sizes > 0, prefix / sizes.clamp(min=1), torch.arange(classes).double())
    return float(ratios.sum()) / (classes * (classes - 1) / 2)


def paper_caps(counts: Tensor, balance: float, prunings: int) -> Tensor:
    """N_i = |c_i| / m^(1 - b), rounded down: free when balanced, |c_i| / m as b goes to 0.

    Source: BDP (arXiv 2312.14200), Eq. 6, in the form that meets its three stated conditions.
    """
    caps: Tensor = counts / prunings ** (1.0 - balance)
    return caps.floor().long()


def no_caps(counts: Tensor, balance: float, prunings: int) -> Tensor:
    """N_i = |c_i|: the search without the class balance constraint (Table 7)."""
    return counts


def linear_caps(counts: Tensor, balance: float, prunings: int) -> Tensor:
    """N_i = |c_i| (b + (1 - b) / m), rounded down: the arithmetic mean, weighted by b, of all and
    an m-th, of which `paper_caps` is the geometric one. Looser."""
    caps: Tensor = counts * (balance + (1.0 - balance) / prunings)
    return caps.floor().long()


def harmonic_caps(counts: Tensor, balance: float, prunings: int) -> Tensor:
    """N_i = |c_i| / (b + (1 - b) m), rounded down: the harmonic mean. Tighter."""
    caps: Tensor = counts / (balance + (1.0 - balance) * prunings)
    return caps.floor().long()


def constant_caps(counts: Tensor, balance: float, prunings: int) -> Tensor:
    """N_i = |c_i| / m, rounded down, however balanced the set is."""
    return counts // prunings


CAPS: dict[str, CapsExpression] = {
    "paper": paper_caps,
    "none": no_caps,
    "linear": linear_caps,
    "harmonic": harmonic_caps,
    "constant": constant_caps,
}
"""By the name of `--balance`. The paper compares other expressions in its supplement, which
we do not have: the last three are ours."""
