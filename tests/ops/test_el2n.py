"""el2n: accurate at any margin, in every dtype and shape."""

import oracles
import pytest
import torch
from oracles import INF, NAN
from torch import Tensor

from bdp_ext import ops

DTYPES = [torch.float32, torch.float16, torch.bfloat16]
CLASSES = [2, 3, 10, 15, 16, 17, 65, 192, 193, 512, 513, 1000, 21841]  # rows change at 192


def logits_at_margins(
    margins: Tensor, classes: int, dtype: torch.dtype, spread: float = 3.0
) -> tuple[Tensor, Tensor]:
    """Rows whose target logit exceeds the largest rival by the given margins."""
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(len(margins), classes, generator=generator) * spread
    target = torch.randint(classes, (len(margins),), generator=generator)
    row = torch.arange(len(margins))
    logits[row, target] = -INF
    logits[row, target] = logits.amax(1) + margins
    return logits.to(dtype), target


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_matches_float64_at_every_margin(
    implementation: str, classes: int, dtype: torch.dtype
) -> None:
    margins = torch.linspace(-80, 80, 161 if classes < 2000 else 33)
    logits, target = logits_at_margins(margins, classes, dtype)
    score = ops.el2n(logits, target)
    assert score.dtype == torch.float32
    assert oracles.relative_error(score, oracles.el2n(logits, target)) <= 1e-6


@pytest.mark.parametrize("rival", [-3.3, 0.1, 7.7])
@pytest.mark.parametrize("classes", [10, 1000, 21841])
def test_equal_rivals_do_not_add_up_their_rounding(
    implementation: str, classes: int, rival: float
) -> None:
    """Every term of the sums rounds the same way: the worst case of a float32 sum."""
    logits = torch.full((40, classes), rival)
    logits[:, 0] = torch.linspace(-20, 20, 40)
    logits[:, -1] = rival + 2.9
    target = torch.zeros(40, dtype=torch.int64)
    error = oracles.relative_error(ops.el2n(logits, target), oracles.el2n(logits, target))
    assert error <= 1e-6


@pytest.mark.parametrize("classes", [10, 192, 193, 1000])
def test_one_logit_far_above_or_below_the_others(implementation: str, classes: int) -> None:
    """Of a rival or of the own class, anywhere in the row: an exponential must not wrap."""
    heights = torch.arange(-400, 401).float()  # every one: what wraps may wrap back
    generator = torch.Generator().manual_seed(classes)
    row = torch.arange(len(heights))
    for own in (True, False):
        logits = torch.zeros(len(heights), classes)
        target = torch.randint(classes, heights.shape, generator=generator)
        other = (target + torch.randint(1, classes, heights.shape, generator=generator)) % classes
        logits[row, target if own else other] = heights
        score, expected = ops.el2n(logits, target), oracles.el2n(logits, target)
        torch.testing.assert_close(score, expected.float(), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("classes", [100, 193, 1000])
def test_logits_of_any_spread(implementation: str, classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3000, classes, generator=generator) * 60
    target = torch.randint(classes, (3000,), generator=generator)
    score, expected = ops.el2n(logits, target), oracles.el2n(logits, target)
    torch.testing.assert_close(score, expected.float(), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("step", [1e-3, 0.05, 3.0])
@pytest.mark.parametrize("classes", [100, 3000])
def test_rising_and_falling_logits(implementation: str, classes: int, step: float) -> None:
    """A row whose largest logit comes last makes a one-pass sum change its anchor all the way."""
    rising = torch.arange(classes) * step - 90
    logits = torch.stack([rising, rising.flip(0)])
    target = torch.tensor([classes // 2, classes // 3])
    error = oracles.relative_error(ops.el2n(logits, target), oracles.el2n(logits, target))
    assert error <= 1e-6


def test_beats_the_obvious_formula_by_a_thousand(implementation: str) -> None:
    logits, target = logits_at_margins(torch.full((500,), 10.0), 10, torch.float32)
    onehot = torch.nn.functional.one_hot(target, 10)
    obvious = (logits.softmax(1) - onehot).norm(dim=1)
    expected = oracles.el2n(logits, target)
    ours = oracles.relative_error(ops.el2n(logits, target), expected)
    assert oracles.relative_error(obvious, expected) >= 1000 * ours


@pytest.mark.parametrize("classes", [4, 200])
@pytest.mark.parametrize(
    ("first", "target", "expected"),
    [
        ([NAN, 1.0, 2.0], 1, NAN),
        ([1.0, NAN, 2.0], 1, NAN),
        ([INF, 1.0, 2.0], 0, NAN),
        ([INF, 1.0, 2.0], 1, NAN),
        ([1.0, 2.0, 3.0], -100, NAN),
        ([1.0, 2.0, 3.0], 200, NAN),
        ([-INF, -INF, -INF], 1, NAN),
        ([-INF, 5.0, NAN], 1, NAN),
        ([-INF, 5.0, -INF], 1, 0.0),
        ([-INF, -2000.0, -INF], 1, 0.0),
        ([-INF, -INF, 5.0], 1, 2**0.5),
        ([-1e30, -1e30, -INF], 1, 0.5**0.5),
        ([3e38, -3e38, -INF], 1, 2**0.5),
        ([3e38, -3e38, -INF], 0, 0.0),
    ],
)
def test_extreme_rows(
    implementation: str, first: list[float], target: int, expected: float, classes: int
) -> None:
    row = torch.tensor(first + [-INF] * (classes - 3))
    ordinary = torch.zeros(classes)
    score = ops.el2n(torch.stack([row, ordinary, row]), torch.tensor([target, 0, target]))
    torch.testing.assert_close(score[0], torch.tensor(expected), equal_nan=True)
    torch.testing.assert_close(score[2], score[0], rtol=0, atol=0, equal_nan=True)
    plain = oracles.el2n(ordinary[None], torch.tensor([0]))
    assert oracles.relative_error(score[1:2], plain) <= 1e-6


@pytest.mark.parametrize("where", ["first", "middle", "last"])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_one_bad_logit_spoils_its_row_only(implementation: str, where: str, bad: float) -> None:
    logits, target = logits_at_margins(torch.zeros(20), 1500, torch.float32)
    column = {"first": 0, "middle": 777, "last": 1499}[where]
    good = ops.el2n(logits, target)
    logits[5, column] = bad
    score = ops.el2n(logits, target)
    assert score[5].isnan()
    keep = torch.arange(20) != 5
    assert torch.equal(score[keep], good[keep])


def test_one_class_is_certain(implementation: str) -> None:
    score = ops.el2n(torch.tensor([[3.0], [-2000.0], [-INF]]), torch.tensor([0, 0, 0]))
    assert score[:2].tolist() == [0.0, 0.0]
    assert score[2].isnan()


@pytest.mark.parametrize("shape", [(0, 10), (0, 0), (3, 0)])
def test_empty(implementation: str, shape: tuple[int, int]) -> None:
    score = ops.el2n(torch.zeros(shape), torch.zeros(shape[0], dtype=torch.int64))
    assert score.shape == shape[:1]
    assert score.isnan().all()


def test_every_half_is_read_right(implementation: str) -> None:
    """All finite float16 bit patterns, subnormal ones included, as one logit against zero."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(torch.float16)
    every = every[every.isfinite()]
    every = torch.cat([every, every.new_tensor([-INF])])
    logits = torch.stack([every, torch.zeros_like(every)], 1)
    target = torch.zeros(len(every), dtype=torch.int64)
    # exp underflows past 700: what is left there is no number of float32 anyway.
    keep = logits[:, 0].float() < 80
    got, expected = ops.el2n(logits, target)[keep], ops.el2n(logits.float(), target)[keep]
    assert torch.equal(got, expected)


@pytest.mark.parametrize("classes", [10, 300])
def test_strided_inputs(implementation: str, classes: int) -> None:
    logits, target = logits_at_margins(torch.linspace(-9, 9, 50), classes, torch.float32)
    expected = ops.el2n(logits, target)
    wide = torch.full((50, 2 * classes), NAN)
    wide[:, ::2] = logits
    assert torch.equal(ops.el2n(wide[:, ::2], target), expected)
    wide[:, :classes] = logits
    assert torch.equal(ops.el2n(wide[:, :classes], target), expected)
    assert torch.equal(ops.el2n(logits.t().contiguous().t(), target), expected)
    assert torch.equal(ops.el2n(logits, torch.stack([target, target], 1)[:, 0]), expected)


def test_does_not_depend_on_the_batch(implementation: str, threads: int) -> None:
    for classes in (10, 1000):
        logits, target = logits_at_margins(torch.linspace(-30, 30, 700), classes, torch.float32)
        whole = ops.el2n(logits, target)
        pieces = [ops.el2n(logits[i : i + 13], target[i : i + 13]) for i in range(0, 700, 13)]
        assert torch.equal(whole, torch.cat(pieces))


def test_reads_detached_and_writes_nothing(implementation: str) -> None:
    logits, target = logits_at_margins(torch.zeros(20), 10, torch.float32)
    before, target_before = logits.clone(), target.clone()
    score = ops.el2n(logits.requires_grad_(), target)
    assert not score.requires_grad
    assert torch.equal(logits, before)
    assert torch.equal(target, target_before)


@pytest.mark.parametrize(
    ("logits", "target", "message"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.int64), "logits must be a 2-d"),
        (torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.int64), "float64"),
        (torch.zeros(3, 2), torch.zeros(3), "target must be a 1-d int64"),
        (torch.zeros(3, 2), torch.zeros(4, dtype=torch.int64), "target must have one entry"),
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64, device="meta"), "on meta"),
    ],
)
def test_rejects(implementation: str, logits: Tensor, target: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=f"el2n: .*{message}"):
        ops.el2n(logits, target)


def test_is_a_good_citizen_of_torch() -> None:
    logits, target = logits_at_margins(torch.zeros(20), 10, torch.float32)
    torch.library.opcheck(torch.ops.bdp_ext.el2n.default, (logits, target))
    compiled = torch.compile(ops.el2n, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(logits, target), ops.el2n(logits, target))
