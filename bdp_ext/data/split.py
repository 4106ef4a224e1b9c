"""Random choices of samples that lose no class: the two levels' halves, and fewer samples."""

import torch
from torch import Tensor

from bdp_ext.errors import UserError


def split_halves(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Divide the samples at random between the weights level and the architecture level.

    A class of two samples or more has one or more on each side; nothing else is stratified.

    Args:
        labels: [N] int64, CPU.
        share: of the samples that go to the weights level ("training set"), inside (0, 1).
        seed: another seed, another split.

    Returns:
        Two disjoint, sorted index sets, [round(share * N)] int64 and [the rest] int64.

    Raises:
        UserError: a side would be empty, or too small to hold every class.
    """
    n = len(labels)
    first = round(share * n)
    if not 0 < first < n:
        raise UserError(
            f"a training share of {share} leaves {first} of {n} samples for training and "
            f"{n - first} for validation: give a --train-share that leaves some for both."
        )
    order, rank = _shuffled(labels, seed)
    divisible = labels.bincount()[labels[order]] >= 2
    classes = int((divisible & (rank == 0)).sum())
    if min(first, n - first) < classes:
        raise UserError(
            f"a training share of {share} splits {n} samples into {first} and {n - first}, too few "
            f"on one side for {classes} classes: give a --train-share nearer to .5 or more samples."
        )
    # A class's first sample goes to the front, its second to the back, the rest stays in between.
    place = (divisible & (rank == 1)).int() - (divisible & (rank == 0)).int()
    order = order[place.argsort(stable=True)]
    return order[:first].sort().values, order[first:].sort().values


def choose(labels: Tensor, limit: int | None, seed: int) -> Tensor:
    """Choose `limit` samples at random so that no class disappears.

    Every class keeps its first two samples of the permutation where `limit` allows (they can
    then be split between the levels), else its first one; the permutation's beginning fills up.

    Args:
        labels: [N] int64, CPU.
        limit: how many; None or more than there are: all of them.
        seed: of the permutation.

    Returns:
        [min(limit, N)] int64, sorted.

    Raises:
        UserError: fewer samples than classes.
    """
    if limit is None or limit >= len(labels):
        return torch.arange(len(labels))
    classes = int((labels.bincount() > 0).sum())
    if limit < classes:
        raise UserError(
            f"{limit} images cannot hold {classes} classes: "
            "give a larger --limit-train or --subset."
        )
    order, rank = _shuffled(labels, seed)
    kept_first = rank < (2 if limit >= 2 * classes else 1)
    order = order[(~kept_first).int().argsort(stable=True)]
    return order[:limit].sort().values


def _shuffled(labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """A permutation of the samples, and at each position how many of its class stand before it."""
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    by_class = labels[order].argsort(stable=True)
    count = labels.bincount()
    start = (count.cumsum(0) - count)[labels[order][by_class]]
    rank = torch.empty_like(order)
    rank[by_class] = torch.arange(len(labels)) - start
    return order, rank
