"""Under mixed precision the operations of a supernet's nodes are computed in half precision by who
owns them on the device, not by the reference."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import cross_entropy
from torch.utils._python_dispatch import TorchDispatchMode

from bdp_ext import kernels
from bdp_ext.methods import METHODS
from bdp_ext.ops import reference
from bdp_ext.spaces import SPACES, Supernet

CASES = [
    ("nas-bench-201", "darts", {"channels": 8, "cells": 1}),
    ("nas-bench-201", "pc-darts", {"channels": 32, "cells": 1}),
    ("darts", "darts", {"channels": 8, "cells": 3}),
    ("darts", "pc-darts", {"channels": 32, "cells": 3}),
]  # not fewer channels: torch's own bfloat16 convolutions crash with 4 of them on some CPUs
HALF = [torch.float16, torch.bfloat16]
NODES = ("node_sum", "node_sum_backward", "norm_relu", "norm_relu_backward")


class Calls(TorchDispatchMode):
    """Counts the calls of our operations by (operation, dtype of its images)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[tuple[str, torch.dtype]] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if function.namespace == "bdp_ext":
            first = args[0][0] if isinstance(args[0], list) else args[0]
            self.seen[function._schema.name.removeprefix("bdp_ext::"), first.dtype] += 1
        return function(*args, **(kwargs or {}))


@contextmanager
def autocast(device: str, dtype: torch.dtype) -> Iterator[None]:
    """`torch.autocast` itself does nothing for a GPU that is not there."""
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, dtype)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, False)


@pytest.fixture(autouse=True)
def no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """`functions.py` finds none to turn to."""
    for op in NODES:
        monkeypatch.delattr(reference, op)


def supernet_of(space: str, method: str, options: dict[str, Any]) -> Supernet:
    torch.manual_seed(0)
    supernet = METHODS[method]().supernet(SPACES[space], classes=5, **options)
    supernet.fused = True
    return supernet


def loss_of(supernet: Supernet, images: Tensor) -> Tensor:
    target = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return cross_entropy(supernet(images), target)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("space", "method", "options"), CASES)
def test_of_a_gpu(space: str, method: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    """Shapes alone, on a GPU that need not be there; without its gradients, which would."""
    with FakeTensorMode(), torch.device("cuda"):
        supernet = supernet_of(space, method, options)
        with autocast("cuda", dtype), Calls() as calls:
            loss_of(supernet, torch.empty(4, 3, 16, 16))
    assert calls.seen["node_sum", dtype] > 0
    assert {kind for _, kind in calls.seen} == {dtype}


def test_a_gpu_has_kernels_of_them() -> None:
    """Who owns these on CUDA with which library: tests/ops/test_triton.py."""
    assert set(NODES) <= set(kernels.OPERATIONS)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize(("space", "method", "options"), CASES)
def test_with_gradients(
    space: str, method: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    """Which operation follows which does not depend on the device."""
    supernet = supernet_of(space, method, options).to(memory_format=torch.channels_last)
    with Calls() as calls:
        with autocast("cpu", dtype):
            loss = loss_of(supernet, torch.randn(4, 3, 16, 16))
        parameters = [*supernet.alphas(), *supernet.weights()]
        found = torch.autograd.grad(loss, parameters, materialize_grads=True)
    assert all(gradient.dtype == torch.float32 for gradient in found)
    assert {kind for _, kind in calls.seen} == {dtype}
    for op in ("node_sum", "norm_relu") if space == "darts" else ("node_sum",):
        assert calls.seen[op, dtype] == calls.seen[f"{op}_backward", dtype] > 0
