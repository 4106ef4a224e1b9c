"""The CUDA library on a real GPU. Without one every test here is skipped.

`make cuda-sanitize` runs the first part, against the oracles, under compute-sanitizer as well.
"""

from collections.abc import Callable, Iterator

import oracles
import pytest
import torch
from torch import Tensor

import bdp_ext
from bdp_ext import ops
from ops import test_node_sum as nodes
from ops import test_norm_relu

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CLASSES = [0, 1, 3, 8, 10, 32, 33, 100, 128, 1000, 1001, 2048, 2049, 21841]
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def cuda_library() -> Iterator[None]:
    """The compiled library, whatever else could serve the device."""
    forced = bdp_ext.backend("cuda")
    try:
        forced.__enter__()
    except RuntimeError as error:
        pytest.skip(str(error))
    yield
    forced.__exit__(None, None, None)


def draw_rows(rows: int, classes: int, dtype: torch.dtype, seed: int) -> tuple[Tensor, Tensor]:
    """Logits with confident rows, -inf, NaN and +inf; targets, some of which are none."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, classes, generator=generator) * 4
    target = torch.randint(max(classes, 1), (rows,), generator=generator)
    if classes:
        at = torch.arange(rows) % classes
        for kind, value in enumerate((60.0, -60.0, float("-inf"), float("nan"), float("inf"))):
            picked = torch.arange(rows)[kind::16]
            column = target[picked] if kind < 2 else at[picked]
            logits[picked, column] = value
        logits[5::16] = float("-inf")
        target[6::16] = -100
        target[7::16] = classes
    return logits.to(dtype), target


def draw_selection(
    samples: int, classes: int, seed: int, ties: bool
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(samples, generator=generator)
    if ties:
        score = (score * 8).round() / 8
    score[torch.rand(samples, generator=generator) < 0.02] = float("nan")
    score[torch.rand(samples, generator=generator) < 0.02] = -0.0
    label = torch.randint(-1, classes + 1, (samples,), generator=generator)
    most = 2 * samples // max(classes, 1) + 2
    return score, label, torch.randint(-1, most, (classes,), generator=generator)


# ---- against the oracles ----


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", CLASSES)
def test_el2n(classes: int, dtype: torch.dtype) -> None:
    logits, target = draw_rows(40, classes, dtype, classes)
    score = ops.el2n(logits.cuda(), target.cuda())
    assert oracles.relative_error(score.cpu(), oracles.el2n(logits, target).float()) < 1e-6


@pytest.mark.parametrize("offset", range(1, 8))
def test_el2n_of_rows_that_start_anywhere(offset: int) -> None:
    for dtype in DTYPES:
        logits, target = draw_rows(20, 1003, dtype, offset)
        view = logits.cuda()[:, offset:]
        clamped = target.clamp(max=1002 - offset)
        expected = oracles.el2n(logits[:, offset:], clamped).float()
        assert oracles.relative_error(ops.el2n(view, clamped.cuda()).cpu(), expected) < 1e-6


def test_el2n_of_no_rows() -> None:
    empty = torch.empty(0, 10, device="cuda")
    assert ops.el2n(empty, torch.empty(0, dtype=torch.int64, device="cuda")).shape == (0,)


@pytest.mark.parametrize("slots", [1, 2, 5, 10, 16, 17, 32, 33])
@pytest.mark.parametrize("samples", [1, 1000, 1003])
def test_voe(samples: int, slots: int) -> None:
    window = torch.rand(slots, samples)
    window[torch.rand(slots, samples) < 0.2] = float("nan")
    window[:, ::7] = 0.3
    variance = ops.voe(window.cuda()).cpu()
    expected = oracles.voe(window)
    assert torch.allclose(variance.double(), expected, rtol=2e-6, atol=1e-12, equal_nan=True)
    if slots > 1:
        assert (variance[::7] == 0).all()


@pytest.mark.parametrize(
    ("rows", "classes", "slots"),
    [(50, 3, 5), (96, 10, 10), (96, 10, 33), (40, 1000, 10), (9, 21841, 10), (5000, 10, 5)],
)
def test_update_voe(rows: int, classes: int, slots: int) -> None:
    samples = max(4, rows // 2)  # duplicates, and beyond 4096 rows the path that claims cells
    logits, target = draw_rows(rows, classes, torch.float32, rows)
    index = torch.randint(-1, samples, (rows,))
    window, voe = torch.rand(slots, samples), torch.full((samples,), -1.0)
    on_gpu = [x.cuda() for x in (window, voe)]
    outside = index.clone()
    outside[index < 0] = samples + 5  # as good as -1 on a GPU
    ops.update_voe_(*on_gpu, slots - 1, outside.cuda(), logits.cuda(), target.cuda())
    expected_window, expected_voe = oracles.update_voe(
        window, voe, slots - 1, index, logits, target
    )
    assert torch.allclose(
        on_gpu[0].cpu().double(), expected_window, rtol=1e-6, atol=0, equal_nan=True
    )
    assert torch.allclose(
        on_gpu[1].cpu().double(), expected_voe, rtol=1e-5, atol=1e-9, equal_nan=True
    )
    touched = index[index >= 0].unique().cuda()
    renewed = ops.voe(on_gpu[0])
    assert torch.equal(on_gpu[1][touched].nan_to_num(-2), renewed[touched].nan_to_num(-2))


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("samples", "classes"), [(1, 1), (300, 7), (5000, 1), (5000, 3), (3000, 2500), (2000, 21841)]
)
def test_capped_topk(samples: int, classes: int, ties: bool, dtype: torch.dtype) -> None:
    score, label, cap = draw_selection(samples, classes, samples + classes, ties)
    for k in (0, 1, samples // 3, samples + 1):
        for largest in (False, True):
            mask, taken = ops.capped_topk(
                score.cuda(), label.to(dtype).cuda(), cap.cuda(), k, largest=largest
            )
            expected, expected_taken = oracles.capped_topk(score, label, cap, k, largest)
            assert torch.equal(mask.cpu(), expected)
            assert int(taken) == expected_taken


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("samples", "classes"), [(50_000, 10), (1_280_000, 1000), (1_280_000, 10), (2_000_000, 21841)]
)
def test_capped_topk_is_what_sorting_gives(samples: int, classes: int, ties: bool) -> None:
    score, label, cap = (x.cuda() for x in draw_selection(samples, classes, 1, ties))
    for ordered in (label, label.sort().values):
        for largest in (False, True):
            arguments = (score, ordered, cap, samples // 5)
            mask, taken = ops.capped_topk(*arguments, largest=largest)
            with bdp_ext.backend("reference"):
                expected, expected_taken = ops.capped_topk(*arguments, largest=largest)
            assert torch.equal(mask, expected)
            assert torch.equal(taken, expected_taken)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pattern", nodes.PATTERNS)
@pytest.mark.parametrize("shape", [*nodes.SHAPES, (65, 16, 32, 32)], ids=str)
def test_node_sum(shape: tuple[int, ...], pattern: str, dtype: torch.dtype) -> None:
    nodes.check(shape, nodes.PATTERNS[pattern], dtype, device="cuda")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*nodes.SHAPES, (65, 16, 32, 32)], ids=str)
def test_norm_relu_of(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    test_norm_relu.check(shape, dtype, device="cuda")


# ---- where and when it runs ----

Case = tuple[Callable[..., tuple[Tensor, ...]], tuple[Tensor, ...]]


def every_op(device: str) -> dict[str, Case]:
    """Each operation as a function of tensors only, with arguments on a device."""
    logits, target = draw_rows(64, 1000, torch.float32, 3)
    wide, wide_target = draw_rows(3, 21841, torch.float32, 4)
    score, label, cap = draw_selection(20_000, 50, 5, ties=True)
    window, voe = torch.rand(10, 500), torch.zeros(500)
    index = torch.randint(500, (64,))

    def update(
        window: Tensor, voe: Tensor, index: Tensor, logits: Tensor, target: Tensor
    ) -> tuple[Tensor, ...]:
        window, voe = window.clone(), voe.clone()
        ops.update_voe_(window, voe, 3, index, logits, target)
        return window, voe

    def node_sum(*tensors: Tensor) -> tuple[Tensor, ...]:
        *inputs, grad, weight = tensors
        flags = [True, False, True]
        y, mean, rstd = torch.ops.bdp_ext.node_sum(inputs, weight, flags, 1e-5)
        of_inputs, of_weight = torch.ops.bdp_ext.node_sum_backward(
            grad, inputs, weight, flags, mean, rstd, 1e-5, [True] * 3, True
        )
        return y, mean, rstd, *of_inputs, of_weight

    def norm_relu(x: Tensor, grad: Tensor) -> tuple[Tensor, ...]:
        y, mean, rstd = torch.ops.bdp_ext.norm_relu(x, 1e-5)
        return y, torch.ops.bdp_ext.norm_relu_backward(grad, x, mean, rstd, 1e-5)

    images = tuple(nodes.image(64, 16, 32, 32, seed=seed) for seed in range(4))
    cases: dict[str, Case] = {
        "el2n": (lambda *a: (ops.el2n(*a),), (logits, target)),
        "el2n, split rows": (lambda *a: (ops.el2n(*a),), (wide, wide_target)),
        "voe": (lambda w: (ops.voe(w),), (window,)),
        "update_voe_": (update, (window, voe, index, logits, target)),
        "capped_topk": (
            lambda *a: ops.capped_topk(*a, 4000, largest=True),
            (score, label, cap),
        ),
        "node_sum": (node_sum, (*images, torch.rand(3))),
        "node_sum, float16": (node_sum, (*(x.half() for x in images), torch.rand(3))),
        "norm_relu": (norm_relu, images[:2]),
        "norm_relu, bfloat16": (norm_relu, tuple(x.bfloat16() for x in images[:2])),
    }
    return {
        name: (run, tuple(x.to(device) for x in arguments))
        for name, (run, arguments) in cases.items()
    }


OPS = ["el2n", "el2n, split rows", "voe", "update_voe_", "capped_topk"]
OPS += ["node_sum", "node_sum, float16", "norm_relu", "norm_relu, bfloat16"]


def same(a: tuple[Tensor, ...], b: tuple[Tensor, ...]) -> bool:
    """Bit for bit, NaN included."""
    bits = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
    return all(
        torch.equal(
            x.cpu().view(bits.get(x.dtype, x.dtype)), y.cpu().view(bits.get(y.dtype, y.dtype))
        )
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("op", OPS)
def test_same_bits_a_hundred_times(op: str) -> None:
    run, arguments = every_op("cuda")[op]
    first = run(*arguments)
    for _ in range(100):
        assert same(run(*arguments), first)


@pytest.mark.parametrize("op", OPS)
def test_second_stream(op: str) -> None:
    """The input is ready on that stream only, and late: another one would see zeros."""
    run, arguments = every_op("cuda")[op]
    expected = run(*arguments)
    late = [torch.zeros_like(x) for x in arguments]
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)
        for x, y in zip(late, arguments, strict=True):
            x.copy_(y)
        result = run(*late)
    stream.synchronize()
    assert same(result, expected)


@pytest.mark.parametrize("op", OPS)
def test_no_op_waits_for_the_device(op: str) -> None:
    run, arguments = every_op("cuda")[op]
    run(*arguments)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(200_000_000)
        run(*arguments)
        idle = torch.cuda.current_stream().query()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not idle


@pytest.mark.parametrize("op", OPS)
def test_graph_replay(op: str) -> None:
    run, arguments = every_op("cuda")[op]
    expected = run(*arguments)
    fixed = [torch.zeros_like(x) for x in arguments]
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        run(*fixed)
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run(*fixed)
    for _ in range(3):  # tickets and histograms must be cleared by each replay
        for x, y in zip(fixed, arguments, strict=True):
            x.copy_(y)
        graph.replay()
        torch.cuda.synchronize()
        assert same(result, expected)


two_devices = pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.device_count() < 2, reason="there is one CUDA device"
)


@two_devices
@pytest.mark.parametrize("op", OPS)
def test_second_device_while_the_first_is_current(op: str) -> None:
    run, arguments = every_op("cuda:0")[op]
    expected = run(*arguments)
    with torch.cuda.device(0):
        result = run(*(x.to("cuda:1") for x in arguments))
        assert torch.cuda.current_device() == 0
    assert all(x.device == torch.device("cuda:1") for x in result)
    assert same(result, expected)


@two_devices
def test_two_devices_in_one_call_are_refused() -> None:
    logits, target = draw_rows(4, 10, torch.float32, 0)
    with pytest.raises(ValueError, match="must be"):
        ops.el2n(logits.to("cuda:0"), target.to("cuda:1"))
    with pytest.raises(RuntimeError, match="same CUDA device"):
        torch.ops.bdp_ext.el2n(logits.to("cuda:0"), target.to("cuda:1"))


@pytest.mark.parametrize("op", OPS)
def test_inputs_are_left_alone(op: str) -> None:
    run, arguments = every_op("cuda")[op]
    before = tuple(x.clone() for x in arguments)
    run(*arguments)
    assert same(arguments, before)


def test_opcheck() -> None:
    logits, target = torch.randn(8, 10), torch.randint(10, (8,))  # no NaN: opcheck finds it unequal
    score, label, cap = draw_selection(100, 5, 0, ties=False)
    images = nodes.image(4, 8, 6, 6).cuda()
    calls: dict[str, tuple[object, ...]] = {
        "el2n": (logits.cuda(), target.cuda()),
        "voe": (torch.rand(5, 20, device="cuda"),),
        "capped_topk": (score.cuda(), label.cuda(), cap.cuda(), 10, True),
        "node_sum": ([images], torch.ones(1, device="cuda"), [True], 1e-5),
        "norm_relu": (images.half(), 1e-5),
    }
    for op, arguments in calls.items():
        torch.library.opcheck(getattr(torch.ops.bdp_ext, op).default, arguments)
