"""The tests of the operations, with Triton's interpreter computing. Run by test_triton.py in a
process of its own, as TRITON_INTERPRET must be set before triton is imported:

    TRITON_INTERPRET=1 pytest tests/ops/triton_cases.py
"""

import inspect
from collections.abc import Iterator

import numpy
import oracles
import pytest
import torch
from oracles import INF, NAN
from torch import Tensor

import bdp_ext
from bdp_ext import ops
from ops import (
    test_capped_topk,
    test_el2n,
    test_node_sum,
    test_norm_relu,
    test_update_voe_,
    test_voe,
)

pytestmark = pytest.mark.filterwarnings("ignore:All-NaN slice:RuntimeWarning")  # numpy's, of max

# Too slow for the interpreter; what they are about is below, with less of it.
SLOW = {
    "test_matches_float64_at_every_margin",
    "test_equal_rivals_do_not_add_up_their_rounding",
    "test_logits_of_any_spread",
    "test_every_half_is_read_right",
    "test_does_not_depend_on_the_batch",
    "test_after_600_updates",
    "test_does_not_depend_on_threads_or_neighbours",
    "test_last_duplicate_wins",
    "test_result_is_that_of_one_thread",
    "test_small_random_cases",
    "test_larger_random_cases",
    "test_many_slices",
    "test_a_sample_that_misleads",  # the C++ version
}

for _module in (
    test_el2n,
    test_update_voe_,
    test_voe,
    test_capped_topk,
    test_node_sum,
    test_norm_relu,
):
    for _name, _test in inspect.getmembers(_module, inspect.isfunction):
        wanted = (
            _name.startswith("test_") and "implementation" in inspect.signature(_test).parameters
        )
        if wanted and _name not in SLOW:
            globals()[f"{_module.__name__.removeprefix('ops.')}{_name.removeprefix('test')}"] = (
                _test
            )


@pytest.fixture
def implementation() -> Iterator[str]:
    """In place of conftest's. The interpreter computes as a GPU does: what overflows is inf."""
    with bdp_ext.backend("triton"), numpy.errstate(all="ignore"):
        yield "triton"


@pytest.mark.parametrize("dtype", test_el2n.DTYPES)
@pytest.mark.parametrize("classes", [2, 17, 1000, 2048, 2049, 4500])
def test_margins(implementation: str, classes: int, dtype: torch.dtype) -> None:
    margins = torch.linspace(-80, 80, 49 if classes < 2000 else 17)
    logits, target = test_el2n.logits_at_margins(margins, classes, dtype)
    expected = oracles.el2n(logits, target)
    assert oracles.relative_error(ops.el2n(logits, target), expected) <= 1e-6


def test_equal_rivals(implementation: str) -> None:
    """Every term of the sums rounds the same way: the worst case of a float32 sum."""
    logits = torch.full((5, 21841), -3.3)
    logits[:, 0] = torch.linspace(-20, 20, 5)
    logits[:, -1] = -0.4
    target = torch.zeros(5, dtype=torch.int64)
    expected = oracles.el2n(logits, target)
    assert oracles.relative_error(ops.el2n(logits, target), expected) <= 1e-6


@pytest.mark.parametrize("bad", [NAN, INF])
@pytest.mark.parametrize("column", [0, 2047, 2048, 4096, 4499])
def test_a_bad_logit_at_the_seams_of_a_long_row(
    implementation: str, column: int, bad: float
) -> None:
    logits, target = test_el2n.logits_at_margins(torch.zeros(2), 4500, torch.float32)
    logits[0, column] = bad
    assert ops.el2n(logits, target).isnan().tolist() == [True, False]


@pytest.mark.parametrize("first", [NAN, -INF, -3.4028234663852886e38])
def test_a_long_row_that_begins_with(implementation: str, first: float) -> None:
    """The first logit of each lane is its first anchor."""
    logits, target = test_el2n.logits_at_margins(torch.linspace(-5, 5, 3), 4500, torch.float32)
    logits[:, :2100] = first
    logits[:, 4400:] = -INF
    target[:] = 3000
    expected = oracles.el2n(logits, target)
    assert oracles.relative_error(ops.el2n(logits, target), expected) <= 1e-6


@pytest.mark.parametrize("classes", [10, 1000])
def test_any_part_of_a_batch(implementation: str, classes: int) -> None:
    logits, target = test_el2n.logits_at_margins(torch.linspace(-30, 30, 70), classes, torch.half)
    whole = ops.el2n(logits, target)
    pieces = [ops.el2n(logits[i : i + 13], target[i : i + 13]) for i in range(0, 70, 13)]
    assert torch.equal(whole, torch.cat(pieces))


@pytest.fixture(params=["first to last", "last to first"])
def order_of_programs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The interpreter runs a launch's programs one by one; a GPU promises no order."""
    from triton.runtime.interpreter import interpreter_builder

    if request.param == "last to first":
        forward = interpreter_builder.set_grid_idx

        def backward(x: int, y: int, z: int) -> None:
            forward(interpreter_builder.grid_dim[0] - 1 - x, y, z)

        monkeypatch.setattr(interpreter_builder, "set_grid_idx", backward)


@pytest.mark.parametrize(("rows", "classes"), [(33, 5), (300, 5), (100, 40), (40, 600)])
def test_duplicates(implementation: str, order_of_programs: None, rows: int, classes: int) -> None:
    """Duplicates within a program's rows, and in those of later programs."""
    case = test_update_voe_.random_case(rows, classes)
    index = torch.randint(-1, rows // 4, (rows,), generator=torch.Generator().manual_seed(1))
    window, voe = test_update_voe_.run(case._replace(index=index))
    last = {i: row for row, i in enumerate(index.tolist()) if i >= 0}
    samples, chosen = torch.tensor(list(last)), torch.tensor(list(last.values()))
    assert torch.equal(window[case.slot, samples], ops.el2n(case.logits, case.target)[chosen])
    assert torch.equal(voe[samples], ops.voe(window)[samples])
    others = torch.ones(300, dtype=torch.bool)
    others[samples] = False
    assert oracles.equal(window[:, others], case.window[:, others])
    assert oracles.equal(voe[others], case.voe[others])


def test_decaying_scores(implementation: str) -> None:
    """Where running sums in float32 go negative."""
    window, variance = torch.full((10, 40), NAN), torch.full((40,), NAN)
    generator = torch.Generator().manual_seed(0)
    start, index = torch.rand(40, generator=generator), torch.arange(40)
    for epoch in range(30):
        margin = 20 * start + 0.2 * epoch + torch.rand(40, generator=generator)
        logits = torch.stack([margin, torch.zeros(40)], 1)
        ops.update_voe_(window, variance, epoch % 10, index, logits, torch.zeros_like(index))
    assert oracles.relative_error(variance, oracles.voe(window)) <= 1e-6
    assert torch.equal(variance, ops.voe(window))


@pytest.mark.parametrize("samples", [511, 512, 1500])
def test_columns_at_the_seams(implementation: str, samples: int) -> None:
    window = test_voe.random_window(10, samples)
    assert oracles.relative_error(ops.voe(window), oracles.voe(window)) <= 1e-6


@pytest.mark.parametrize("seed", range(4))
def test_small_selections(implementation: str, seed: int) -> None:
    test_capped_topk.test_small_random_cases(implementation, seed)


@pytest.mark.parametrize("classes", [1, 7, 300, 32_767, 32_768])  # the last sorts 32-bit classes
@pytest.mark.parametrize("samples", [1023, 1024, 5000])
def test_selections(implementation: str, samples: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(samples + classes)
    score = test_capped_topk.random_scores(samples, generator)
    label = torch.randint(classes, (samples,), generator=generator)
    label[::50], label[7::50] = -1, classes
    cap = torch.randint(-1, 3 + 2 * samples // classes, (classes,), generator=generator)
    some = samples // 3
    for k, largest in ((some, False), (some, True), (samples + 1, False), (2**40, True)):
        test_capped_topk.check(score, label, cap, k, largest)


@pytest.mark.parametrize("slices", [1, 3])
def test_slices_of_several_tiles(
    implementation: str, monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    monkeypatch.setattr("bdp_ext.kernels.node_sum.SLICES", slices)
    test_node_sum.check((7, 16, 16, 16), [True, False, True])
    test_norm_relu.check((7, 16, 16, 16))


def far_apart(rows: int, columns: int, strides: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """[rows, columns], random. Only the pages it touches become memory."""
    reach = strides[0] * (rows - 1) + strides[1] * (columns - 1) + 1
    try:
        whole = torch.empty(reach, dtype=dtype)
    except RuntimeError:
        pytest.skip(f"no address space for {reach} numbers")
    return whole.as_strided((rows, columns), strides).copy_(torch.rand(rows, columns) * 1.4)


@pytest.mark.parametrize("strides", [(2**31 + 16, 1), (2**30 + 16, 1), (1, 2**31 + 16)])
def test_logits_beyond_int32(implementation: str, strides: tuple[int, int]) -> None:
    logits, target = far_apart(3, 3, strides, torch.half), torch.tensor([2, 0, 1])
    expected = oracles.el2n(logits, target)
    assert oracles.relative_error(ops.el2n(logits, target), expected) <= 1e-6


def test_a_ring_beyond_int32(implementation: str) -> None:
    samples, length = 2**30 + 16, 4
    window = far_apart(length, 20, (samples, 1), torch.float32)
    assert oracles.relative_error(ops.voe(window), oracles.voe(window)) <= 1e-6
    window, voe = torch.empty(length, samples), torch.empty(samples)
    window[:, -3:] = torch.rand(length, 3)
    logits, target = torch.randn(2, 10), torch.tensor([3, 4])
    index = torch.tensor([samples - 1, samples - 3])
    ops.update_voe_(window, voe, 3, index, logits, target)
    assert torch.equal(window[3, index], ops.el2n(logits, target))
    assert oracles.relative_error(voe[index], oracles.voe(window[:, index])) <= 1e-6
