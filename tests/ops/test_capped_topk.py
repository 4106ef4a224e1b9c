"""capped_topk: the same set as a slow greedy walk, bit for bit."""

import functools

import oracles
import pytest
import torch
from oracles import INF, NAN
from torch import Tensor

from bdp_ext import ops

LABELS = [torch.int64, torch.int32, torch.int16]
SPECIAL = torch.tensor([0.0, -0.0, NAN, -NAN, INF, -INF, 1.0, -1.0, 1e-45, -1e-45, 3.4e38])


def random_scores(samples: int, generator: torch.Generator) -> Tensor:
    """Of one kind by chance: plain numbers, variances, many ties, special values, or one value."""
    plain = torch.randn(samples, generator=generator)
    special = SPECIAL[torch.randint(len(SPECIAL), (samples,), generator=generator)]
    kind = int(torch.randint(6, (), generator=generator))
    if kind == 0:
        return plain
    if kind == 1:
        return plain.square() * 1e-3
    if kind == 2:
        return (plain * 2).round()
    if kind == 3:
        return special
    if kind == 4:
        return plain.where(torch.rand(samples, generator=generator) < 0.7, special)
    return special[:1].expand(samples).clone()


def check(score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool) -> None:
    mask, taken = ops.capped_topk(score, label, cap, k, largest=largest)
    expected, expected_taken = oracles.capped_topk(score, label, cap, k, largest)
    assert mask.dtype == torch.bool
    assert taken.dtype == torch.int64
    assert taken.shape == ()
    assert torch.equal(mask, expected), (score, label, cap, k, largest)
    assert int(taken) == expected_taken


@pytest.mark.parametrize("seed", range(20))
def test_small_random_cases(implementation: str, seed: int) -> None:
    """800 calls: empty and single classes, labels that are none, caps and k below and above."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    for case in range(20):
        samples, classes = draw(0, 50), draw(1, 8)
        score = random_scores(samples, generator)
        label = torch.randint(-draw(0, 1), classes + draw(0, 1), (samples,), generator=generator)
        label = (label.sort().values if draw(0, 1) else label).to(LABELS[case % 3])
        cap = torch.randint(-1, 2 + 2 * samples // classes, (classes,), generator=generator)
        cap = cap if draw(0, 2) else torch.full((classes,), samples)
        k = [0, draw(0, samples), samples + 5][min(draw(0, 4), 2)]
        check(score, label, cap, k, largest=False)
        check(score, label, cap, k, largest=True)


@pytest.mark.parametrize("sort", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_larger_random_cases(implementation: str, threads: int, seed: int, sort: bool) -> None:
    """Classes beyond one cache, parts of threads that end inside a class, ties across them."""
    arguments, (expected, expected_taken) = large_case(seed, sort)
    mask, taken = ops.capped_topk(*arguments, largest=seed % 2 == 0)
    assert torch.equal(mask, expected)
    assert int(taken) == expected_taken


@functools.cache  # the walk takes longer than all implementations together
def large_case(
    seed: int, sort: bool
) -> tuple[tuple[Tensor, Tensor, Tensor, int], tuple[Tensor, int]]:
    """Arguments, and the greedy walk's answer."""
    generator = torch.Generator().manual_seed(seed)
    samples, classes = 150_000 if seed in (0, 3, 5) else 20_000, [1, 7, 300, 5000][seed % 4]
    score = random_scores(samples, generator)
    label = torch.randint(-1, classes + 1, (samples,), generator=generator)
    label = (label.sort().values if sort else label).to(LABELS[seed // 2])
    cap = torch.randint(0, 1 + 2 * samples // classes, (classes,), generator=generator)
    k = int(torch.randint(samples, (), generator=generator))
    return (score, label, cap, k), oracles.capped_topk(score, label, cap, k, seed % 2 == 0)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("offset", [-100.0, 100.0])
def test_a_sample_that_misleads(implementation: str, offset: float, largest: bool) -> None:
    """Every eighth score lies apart: those that the C++ version draws to find where k falls."""
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(8 * 16384, generator=generator)
    score[4::8] += offset
    label = torch.randint(10, score.shape, generator=generator).sort().values
    check(score, label, torch.full((10,), 9000), 40_000, largest)


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize(
    ("score", "expected"),
    [
        ([1.0, 1.0, 1.0, 1.0], [0, 1]),
        ([-0.0, 0.0, -0.0, 0.0], [0, 1]),
        ([NAN, 3.0, NAN, 3.0], [1, 3]),
        ([NAN, 3.0, NAN, NAN], [0, 1]),
        ([NAN, NAN, -INF, INF], [2, 3]),
    ],
)
def test_ties_and_nan(
    implementation: str, score: list[float], expected: list[int], largest: bool
) -> None:
    mask, taken = ops.capped_topk(
        torch.tensor(score),
        torch.zeros(4, dtype=torch.int64),
        torch.tensor([4]),
        2,
        largest=largest,
    )
    assert mask.nonzero().flatten().tolist() == expected
    assert int(taken) == 2


def test_caps_leave_fewer_than_k(implementation: str) -> None:
    label = torch.arange(100) % 4
    mask, taken = ops.capped_topk(
        torch.rand(100), label, torch.tensor([0, 3, 1000, -5]), 90, largest=True
    )
    assert int(taken) == 28
    assert label[mask].bincount(minlength=4).tolist() == [0, 3, 25, 0]


@pytest.mark.parametrize("label", [-(2**15), -1, 3, 2**15 - 1])
def test_labels_that_are_no_class(implementation: str, label: int) -> None:
    labels = torch.tensor([0, 1, label, 2, label])
    for dtype in LABELS:
        check(torch.zeros(5), labels.to(dtype), torch.tensor([9, 9, 9]), 5, False)


def test_no_classes_and_no_samples(implementation: str) -> None:
    none = torch.empty(0, dtype=torch.int64)
    check(torch.rand(5), torch.zeros(5, dtype=torch.int64), none, 3, False)
    check(torch.empty(0), none, torch.tensor([3]), 3, True)


def test_strided_inputs(implementation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    score = torch.rand(200, generator=generator)[::2]
    label = torch.randint(5, (200,), generator=generator)[::2]
    check(score, label, torch.tensor([9, 3, 9, 7, 9, 3])[::2], 20, False)


def test_writes_nothing(implementation: str) -> None:
    score, label, cap = torch.rand(500), torch.randint(5, (500,)), torch.full((5,), 20)
    before = score.clone(), label.clone(), cap.clone()
    mask, _ = ops.capped_topk(score.requires_grad_(), label, cap, 70, largest=True)
    assert not mask.requires_grad
    for now, then in zip((score, label, cap), before, strict=True):
        assert torch.equal(now, then)


LONG = torch.int64


@pytest.mark.parametrize(
    ("score", "label", "cap", "k", "message"),
    [
        (torch.zeros(4, 1), torch.zeros(4, dtype=LONG), torch.ones(1, dtype=LONG), 1, "score"),
        (torch.zeros(4).half(), torch.zeros(4, dtype=LONG), torch.ones(1, dtype=LONG), 1, "score"),
        (torch.zeros(4), torch.zeros(4), torch.ones(1, dtype=LONG), 1, "label"),
        (torch.zeros(4), torch.zeros(3, dtype=LONG), torch.ones(1, dtype=LONG), 1, "label"),
        (torch.zeros(4), torch.zeros(4, dtype=LONG), torch.ones(1), 1, "cap"),
        (torch.zeros(4), torch.zeros(4, dtype=LONG), torch.ones(1, dtype=LONG), -1, "k must be"),
    ],
)
def test_rejects(
    implementation: str, score: Tensor, label: Tensor, cap: Tensor, k: int, message: str
) -> None:
    with pytest.raises(ValueError, match=f"capped_topk: {message}"):
        ops.capped_topk(score, label, cap, k, largest=True)


def test_is_a_good_citizen_of_torch() -> None:
    arguments = (torch.rand(100), torch.randint(5, (100,)), torch.full((5,), 10), 30)
    torch.library.opcheck(torch.ops.bdp_ext.capped_topk.default, (*arguments, True))
    compiled = torch.compile(ops.capped_topk, fullgraph=True, backend="aot_eager")
    mask, taken = compiled(*arguments, largest=True)
    expected = ops.capped_topk(*arguments, largest=True)
    assert torch.equal(mask, expected[0])
    assert torch.equal(taken, expected[1])
