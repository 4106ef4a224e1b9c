"""update_voe_: score a batch, write the ring, renew those samples' VoE, beside the same three steps
in eager torch.

The ring holds as many samples as the data set that has so many classes (CIFAR, ImageNet-1k,
ImageNet-21k), and every call takes other samples, as a search does.
"""

import bench_el2n
import numpy as np
import torch
from _rounds import Bench, Work, close
from bench_el2n import Batch, batch
from torch import Tensor

from bdp_ext import ops
from bdp_ext.ops import reference

LENGTH, SLOT = 10, 3
SAMPLES = {10: 50_000, 100: 50_000, 1000: 1_280_000, 21841: 14_000_000}
CALLS = 64  # their columns of the ring of 14 M samples are 45 MB of cache lines


def eager(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    """torch's var over the short dimension is slower than its parts."""
    window[slot].index_copy_(0, index, bench_el2n.eager(logits, target))
    scores = window.index_select(1, index)
    scores -= scores.mean(0)
    voe.index_copy_(0, index, scores.square_().mean(0))


def in_numpy(
    window: np.ndarray,
    voe: np.ndarray,
    slot: int,
    index: np.ndarray,
    logits: np.ndarray,
    target: np.ndarray,
) -> None:
    window[slot, index] = bench_el2n.in_numpy(logits, target)
    voe[index] = window[:, index].var(axis=0)


def work(case: Batch, device: torch.device) -> Work:
    logits, target = batch(case, device)
    samples = SAMPLES[case.classes]
    window = torch.rand(LENGTH, samples, device=device)
    voe = torch.rand(samples, device=device)
    indices = [torch.randint(samples, (2 * case.rows,)).unique() for _ in range(CALLS)]
    indices = [i[torch.randperm(len(i))[: case.rows]].to(device) for i in indices]

    first = indices[0]
    scores = reference.el2n(logits, target)
    columns = window[:, first].double()
    columns[SLOT] = scores.double()
    variance = reference.voe(columns)

    def check(run) -> None:
        window[SLOT, first] = -1.0
        voe[first] = -1.0
        run()
        close(window[SLOT, first], scores)
        close(voe[first], variance)

    return Work([(window, voe, SLOT, index, logits, target) for index in indices], check)


BENCH = Bench(
    op="update_voe_",
    ours=ops.update_voe_,
    cases=bench_el2n.CASES,
    quick_cases=bench_el2n.QUICK,
    work=work,
    eager=eager,
    numpy=in_numpy,
)


def test_update_voe_(case, compare):
    compare(BENCH, case)
