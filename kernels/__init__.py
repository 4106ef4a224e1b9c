"""The operations as Triton kernels, a module for each, whose launcher has the operation's name and
arguments; that of its gradient stands beside it.

They compute on a CUDA device where the compiled library is absent (`ops/register.py`), and wherever
`bdp_ext.backend("triton")` forces them. This file imports no triton, so it works without one; a
module is imported on its first call, because Triton reads TRITON_INTERPRET when it is imported.
"""

import importlib
import importlib.util
import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

OPERATIONS = (
    "el2n",
    "update_voe_",
    "voe",
    "capped_topk",
    "node_sum",
    "node_sum_backward",
    "norm_relu",
    "norm_relu_backward",
)
OLDEST_CAPABILITY = (7, 0)  # Triton compiles for nothing older than Volta


def installed() -> bool:
    """Whether the package `triton` can be imported."""
    return importlib.util.find_spec("triton") is not None


def launcher(op: str) -> Callable[..., Any]:
    """The function that launches the kernels of `op`."""
    module = importlib.import_module(f"bdp_ext.kernels.{op.removesuffix('_backward')}")
    return getattr(module, op)  # type: ignore[no-any-return]


def why_not(like: Tensor) -> str | None:
    """Why the kernels cannot run on tensors like this one, and the fix; None where they can."""
    if not installed():
        return "triton is not installed: pip install triton"
    if like.is_cuda:
        if torch.cuda.get_device_capability(like.device) >= OLDEST_CAPABILITY:
            return None
        return f"{torch.cuda.get_device_name(like.device)} is older than sm_70: use another backend"
    if like.device.type != "cpu":
        return f"Triton does not run on {like.device}: move the tensors to a CUDA device"
    if os.environ.get("TRITON_INTERPRET") != "1":
        return (
            "the tensors are on the CPU: move them to a CUDA device, or set TRITON_INTERPRET=1 "
            "before Python starts (slow, for tests)"
        )
    if importlib.util.find_spec("numpy") is None:
        return "Triton's interpreter needs numpy: pip install numpy"
    return None
