"""`kernel_launches.py` gives the number of kernels that the launchers launch."""

from functools import partial
from pathlib import Path

import kernel_launches
import pytest
import torch
from kernel_launches import OWN
from test_simt import HARNESS, REASON, built, run

from bdp_ext import build_info

pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))

empty = partial(torch.empty, device="meta")


@pytest.fixture(scope="module")
def program() -> Path:
    return built(HARNESS / "launches.cpp", "san", extra=("-O0", "-DSIMT_FLOAT_ONLY"))


def counted(program: Path, *words: object) -> int:
    result = run(program, *map(str, words))
    assert result.returncode == 0, result.stderr
    return int(result.stdout)


@pytest.mark.parametrize(
    ("rows", "classes"), [(0, 10), (64, 10), (64, 1000), (64, 3000), (2, 8192), (264, 8192)]
)
def test_a_batch(program, rows, classes):
    """Few rows of many classes are split."""
    logits, target = empty(rows, classes), empty(rows)
    assert counted(program, "el2n", rows, classes) == OWN["el2n"](logits, target)
    found = OWN["update_voe_"](empty(2, 5), empty(5), 0, target, logits, target)
    assert counted(program, "update_voe_", rows, classes, 5) == found


@pytest.mark.parametrize(("rows", "samples"), [(4096, 5), (4097, 5), (64, 0)])
def test_a_long_batch_is_claimed_first(program, rows, samples):
    logits, target = empty(rows, 10), empty(rows)
    found = OWN["update_voe_"](empty(2, samples), empty(samples), 0, target, logits, target)
    assert counted(program, "update_voe_", rows, 10, samples) == found


@pytest.mark.parametrize(("slots", "samples"), [(5, 0), (5, 300), (20, 300), (50, 300)])
def test_a_whole_window(program, slots, samples):
    assert counted(program, "voe", slots, samples) == OWN["voe"](empty(slots, samples))


@pytest.mark.parametrize(("samples", "classes"), [(0, 10), (300, 10), (300, 5000), (20000, 2)])
def test_a_selection(program, samples, classes):
    score = empty(samples)
    found = OWN["capped_topk"](score, score, empty(classes), 1, True)
    assert counted(program, "capped_topk", samples, classes) == found


NODES = ["1", "0", "11011", "00000", 64 * "1", 65 * "1", 65 * "0", 64 * "0" + "1", 70 * "10"]


@pytest.mark.parametrize("normed", NODES)
def test_a_node(program, normed):
    flags, inputs = [flag == "1" for flag in normed], [empty(1)] * len(normed)
    assert counted(program, "node_sum", normed) == OWN["node_sum"](inputs, empty(1), flags, 1e-5)
    for needed in ("0" * len(normed), "1" * len(normed), "0" * (len(normed) - 1) + "1"):
        for need_weight in (False, True):
            found = OWN["node_sum_backward"](
                *(empty(1), inputs, empty(1), flags, empty(1), empty(1), 1e-5),
                *([flag == "1" for flag in needed], need_weight),
            )
            words = ("node_sum_backward", normed, needed, int(need_weight))
            assert counted(program, *words) == found, words


def test_norm_relu_is_a_node_of_one_and_its_weight():
    x = empty(1)
    assert OWN["norm_relu"](x, 1e-5) == OWN["node_sum"]([x], x, [True], 1e-5) + 1
    assert OWN["norm_relu_backward"](x, x, x, x, 1e-5) == 4
    source = (Path(__file__).parents[2] / "csrc/register_node.cpp").read_text()
    assert source.count("= One(x)") == 2 * kernel_launches.FILL


def test_the_table_has_the_operations_that_have_cuda_code():
    if not build_info()["libraries"]["cuda"]["loaded"]:
        pytest.skip("the CUDA library is not built")
    owners = build_info()["operations"]
    assert {op for op, owner in owners.items() if owner["cuda"] == "compiled"} == set(OWN)
