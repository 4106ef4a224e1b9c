"""update_voe_: score, ring and VoE in one pass and in place."""

from typing import NamedTuple

import oracles
import pytest
import torch
from oracles import NAN, equal, same_voe
from torch import Tensor

from bdp_ext import ops


class Case(NamedTuple):
    """The arguments of update_voe_."""

    window: Tensor
    voe: Tensor
    slot: int
    index: Tensor
    logits: Tensor
    target: Tensor


def random_case(
    rows: int,
    classes: int,
    length: int = 10,
    samples: int = 300,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> Case:
    """A ring with gaps, a batch with skipped rows and without duplicates."""
    generator = torch.Generator().manual_seed(seed)
    window = torch.rand(length, samples, generator=generator)
    window[torch.rand(length, samples, generator=generator) < 0.3] = NAN
    index = torch.randperm(samples, generator=generator)[:rows]
    index[torch.rand(rows, generator=generator) < 0.1] = -1
    logits = torch.randn(rows, classes, generator=generator) * 5
    target = torch.randint(classes, (rows,), generator=generator)
    slot = int(torch.randint(length, (), generator=generator))
    return Case(window, torch.rand(samples), slot, index, logits.to(dtype), target)


def run(case: Case) -> tuple[Tensor, Tensor]:
    """The ring and VoE after the update, on copies."""
    window, voe = case.window.clone(), case.voe.clone()
    ops.update_voe_(window, voe, *case[2:])
    return window, voe


@pytest.mark.parametrize(
    ("rows", "classes", "length", "dtype"),
    [
        (96, 10, 10, torch.float32),
        (1, 10, 10, torch.float32),
        (15, 2, 2, torch.float32),
        (16, 100, 1, torch.float32),
        (17, 64, 64, torch.float16),
        (100, 65, 10, torch.bfloat16),
        (50, 1000, 100, torch.float32),
        (5, 21841, 10, torch.float16),
    ],
)
def test_matches_float64(
    implementation: str, rows: int, classes: int, length: int, dtype: torch.dtype
) -> None:
    case = random_case(rows, classes, length, dtype=dtype)
    window, voe = run(case)
    expected_window, expected_voe = oracles.update_voe(*case)
    assert oracles.relative_error(window, expected_window) <= 1e-6
    # From the ring as it is: two scores may differ in the last bit alone.
    touched = case.index[case.index >= 0]
    assert oracles.relative_error(voe[touched], oracles.voe(window[:, touched])) <= 1e-6
    assert torch.equal(voe.isnan(), expected_voe.isnan())


def test_touches_only_its_samples(implementation: str) -> None:
    case = random_case(40, 10)
    window, voe = run(case)
    others = torch.ones(300, dtype=torch.bool)
    others[case.index[case.index >= 0]] = False
    assert equal(voe[others], case.voe[others])
    assert equal(window[:, others], case.window[:, others])
    rest = torch.arange(10) != case.slot
    assert equal(window[rest], case.window[rest])


@pytest.mark.parametrize("classes", [10, 200])
def test_agrees_with_el2n_and_voe_to_the_bit(implementation: str, classes: int) -> None:
    case = random_case(100, classes)
    window, voe = run(case)
    kept = case.index >= 0
    samples = case.index[kept]
    assert torch.equal(window[case.slot, samples], ops.el2n(case.logits, case.target)[kept])
    assert same_voe(implementation, voe[samples], ops.voe(window)[samples])


@pytest.mark.parametrize("classes", [5, 1000])
def test_last_duplicate_wins(implementation: str, threads: int, classes: int) -> None:
    case = random_case(300, classes, samples=301)
    index = torch.randint(-1, 40, (300,), generator=torch.Generator().manual_seed(1))
    window, voe = run(case._replace(index=index))
    last = {i: row for row, i in enumerate(index.tolist()) if i >= 0}
    samples, rows = torch.tensor(list(last)), torch.tensor(list(last.values()))
    score = ops.el2n(case.logits, case.target)
    assert torch.equal(window[case.slot, samples], score[rows])
    assert same_voe(implementation, voe[samples], ops.voe(window)[samples])


def test_bad_rows_are_written_as_unknown(implementation: str) -> None:
    case = random_case(40, 10)
    index = torch.arange(40)
    case.logits[3, 4] = NAN
    case.target[7] = -100
    window, voe = run(case._replace(index=index))
    assert window[case.slot, [3, 7]].isnan().all()
    assert same_voe(implementation, voe[:40], ops.voe(window)[:40])


def test_result_is_that_of_one_thread(implementation: str) -> None:
    before = torch.get_num_threads()
    case = random_case(1000, 200, samples=150_000)
    try:
        torch.set_num_threads(1)
        one = run(case)
        torch.set_num_threads(2)
        two = run(case)
    finally:
        torch.set_num_threads(before)
    assert equal(one[0], two[0])
    assert equal(one[1], two[1])


def test_index_out_of_range_writes_nothing(implementation: str) -> None:
    case = random_case(40, 10)
    case.index[20] = 300
    window, voe = case.window.clone(), case.voe.clone()
    with pytest.raises(IndexError, match="update_voe_: index 300 of 300 samples"):
        ops.update_voe_(window, voe, *case[2:])
    assert equal(window, case.window)
    assert equal(voe, case.voe)


@pytest.mark.parametrize("rows", [0, 5])
def test_nothing_to_do(implementation: str, rows: int) -> None:
    case = random_case(rows, 10)
    window, voe = run(case._replace(index=torch.full((rows,), -1)))
    assert equal(window, case.window)
    assert equal(voe, case.voe)


def test_no_samples_at_all(implementation: str) -> None:
    case = random_case(5, 10)
    empty = case._replace(window=torch.empty(10, 0), voe=torch.empty(0))
    run(empty._replace(index=torch.full((5,), -1)))
    with pytest.raises(IndexError):
        run(empty._replace(index=torch.zeros(5, dtype=torch.int64)))


def test_strided_batch(implementation: str) -> None:
    case = random_case(40, 10)
    expected = run(case)
    window, voe = run(
        case._replace(
            logits=case.logits.t().contiguous().t(),
            index=torch.stack([case.index, case.index], 1)[:, 0],
            target=torch.stack([case.target, case.target], 1)[:, 1],
        )
    )
    assert equal(window, expected[0])
    assert equal(voe, expected[1])


def test_leaves_the_batch_alone(implementation: str) -> None:
    case = random_case(40, 10)
    before = [x.clone() for x in case[3:]]
    run(case._replace(logits=case.logits.requires_grad_()))
    for now, then in zip(case[3:], before, strict=True):
        assert torch.equal(now, then)


LONG = torch.int64


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": torch.zeros(10, 300, dtype=torch.float64)}, "window must be a 2-d float32"),
        ({"window": torch.zeros(300, 10).t()}, "window and voe .* must be contiguous"),
        ({"voe": torch.zeros(299)}, "voe must have one entry per column of window"),
        ({"voe": torch.zeros(600)[::2]}, "window and voe .* must be contiguous"),
        ({"slot": 10}, r"slot must be in \[0, 10\), got 10"),
        ({"slot": -1}, "slot must be in"),
        ({"index": torch.zeros(40)}, "index must be a 1-d int64"),
        ({"index": torch.zeros(39, dtype=LONG)}, "index must have one entry per row of logits"),
        ({"logits": torch.zeros(40, 10, dtype=torch.float64)}, "logits must be a 2-d float32"),
        ({"target": torch.zeros(41, dtype=LONG)}, "target must have one entry per row of logits"),
    ],
)
def test_rejects(implementation: str, changed: dict[str, Tensor | int], message: str) -> None:
    case = random_case(40, 10)._replace(**changed)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"update_voe_: .*{message}"):
        ops.update_voe_(*case)


def test_is_a_good_citizen_of_torch() -> None:
    case = random_case(40, 10)
    torch.library.opcheck(torch.ops.bdp_ext.update_voe_.default, tuple(case))
    compiled = torch.compile(ops.update_voe_, fullgraph=True, backend="aot_eager")
    window, voe = case.window.clone(), case.voe.clone()
    compiled(window, voe, *case[2:])
    expected = run(case)
    assert equal(window, expected[0])
    assert equal(voe, expected[1])
