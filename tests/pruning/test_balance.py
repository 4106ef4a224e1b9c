"""The class balance degree (Eq. 5) and the caps (Eq. 6)."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bdp_ext.pruning import CAPS, balance_degree, no_caps, paper_caps


def by_pairs(counts: list[int]) -> float:
    """Eq. 5 as the paper writes it."""
    pairs = list(itertools.combinations(counts, 2))
    if not pairs:
        return 1.0
    return sum(min(p) / max(p) if max(p) else 1.0 for p in pairs) / len(pairs)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30))
def test_equals_the_mean_over_pairs(counts):
    assert balance_degree(torch.tensor(counts)) == pytest.approx(by_pairs(counts), abs=1e-12)


def test_equal_classes_are_exactly_balanced():
    assert balance_degree(torch.full((21_841,), 640)) == 1.0


@given(
    st.lists(st.integers(1, 5000), min_size=2, max_size=20),
    st.integers(1, 20),
)
def test_caps_lie_between_a_share_and_all(counts, prunings):
    sizes = torch.tensor(counts)
    caps = paper_caps(sizes, balance_degree(sizes), prunings)
    assert (caps <= sizes).all()
    assert (caps >= sizes // prunings).all()


@pytest.mark.parametrize("name", ["paper", "linear", "harmonic"])
def test_caps_meet_the_papers_three_conditions(name):
    caps, sizes = CAPS[name], torch.tensor([100, 80, 60])
    assert torch.equal(caps(sizes, 1.0, 9), sizes)  # balanced: free
    tighter = [int(caps(sizes, b, 9)[0]) for b in (0.9, 0.6, 0.3)]
    assert tighter == sorted(set(tighter), reverse=True)  # tighter as b falls
    assert torch.equal(caps(sizes, 0.0, 9), sizes // 9)  # unbalanced: |c| / m
    assert torch.equal(caps(sizes, 0.0, 1), sizes)  # one pruning: never bind


@given(st.floats(0.01, 0.99), st.integers(2, 20))
def test_other_expressions_lie_around_the_papers(balance, prunings):
    sizes = torch.tensor([10**9])
    order = ("constant", "harmonic", "paper", "linear", "none")
    caps = [int(CAPS[name](sizes, balance, prunings)) for name in order]
    assert caps == sorted(set(caps))


def test_no_caps():
    sizes = torch.tensor([3, 0])
    assert torch.equal(no_caps(sizes, 0.0, 9), sizes)
