"""Which implementation computes: the dispatcher's choice, or one forced by `backend(...)` or
BDP_EXT_BACKEND."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from bdp_ext import kernels
from bdp_ext.ops import autograd, libraries, reference, register

BACKENDS = ("reference", "cpu", "cuda", "triton")

_forced: str | None = None
_registered: dict[str, Callable[..., Any]] = {
    op: getattr(torch.ops.bdp_ext, op).default for op in register.SCHEMAS
}


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Force one implementation of the operations inside a `with` block.

    Args:
        name: "reference" (plain torch, any device), "cpu" (compiled C++), "cuda" (compiled CUDA) or
            "triton" (a CUDA device; with TRITON_INTERPRET=1 set before Python starts, the CPU).

    Raises:
        ValueError: no such backend.
        RuntimeError: the backend is not there; the sentence names the fix. An operation raises it
            where its tensors are on a device that the backend does not serve.
    """
    global _forced
    _require(name)
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


def implementation(op: str, like: Tensor) -> Callable[..., Any]:
    """The function that computes `op` for tensors on the device of `like`."""
    if _forced is None:
        return _registered[op]
    if _forced == "reference":
        return register.checked(op, getattr(reference, op))
    if _forced == "triton":
        if op not in kernels.OPERATIONS:
            raise RuntimeError(f"{op}: backend 'triton' is forced, but has no kernel for it.")
        if problem := kernels.why_not(like):
            raise RuntimeError(f"{op}: backend 'triton' is forced, but {problem}.")
        if op in autograd.DIFFERENTIABLE:
            return getattr(torch.ops.bdp_ext_triton, op)  # type: ignore[no-any-return]
        return register.checked(op, kernels.launcher(op))
    if like.device.type != _forced:
        raise RuntimeError(
            f"{op}: backend {_forced!r} is forced, but the tensors are on {like.device}; "
            f"move them or use another backend."
        )
    return _registered[op]


def _require(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {name!r}.")
    if name in ("cpu", "cuda") and not libraries.loaded(name):
        raise RuntimeError(f"backend {name!r} is not there: {libraries.reason(name)}")
    if name == "triton" and not kernels.installed():
        raise RuntimeError("backend 'triton' is not there: pip install triton")


if not libraries.loaded("cuda"):
    register.give_cuda_to_triton()
if os.environ.get("BDP_EXT_BACKEND"):
    _require(os.environ["BDP_EXT_BACKEND"])
    _forced = os.environ["BDP_EXT_BACKEND"]
