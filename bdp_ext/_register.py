"""Every operation's schema, fallback and fake kernel: the one place where ops are registered.

One owner per (op, device). The plain torch reference serves every device; a compiled library that
is loaded (`_libraries.py`) takes its own device over. C++ only implements; it defines no schema.
"""

import torch
from torch import Tensor

from bdp_ext import _reference

SCHEMAS = {
    "el2n": "(Tensor logits, Tensor target) -> Tensor",
    "update_voe_": (
        "(Tensor(a!) window, Tensor(b!) voe, int slot, Tensor index, Tensor logits, "
        "Tensor target) -> ()"
    ),
    "voe": "(Tensor window) -> Tensor",
    "capped_topk": (
        "(Tensor score, Tensor label, Tensor cap, int k, bool largest) -> (Tensor, Tensor)"
    ),
}

_library = torch.library.Library("bdp_ext", "DEF")
for _name, _schema in SCHEMAS.items():
    _library.define(_name + _schema)
    _library.impl(_name, getattr(_reference, _name), "CompositeExplicitAutograd")


@torch.library.register_fake("bdp_ext::el2n")
def _(logits: Tensor, target: Tensor) -> Tensor:
    return logits.new_empty(logits.shape[0], dtype=torch.float32)


@torch.library.register_fake("bdp_ext::update_voe_")
def _(
    window: Tensor, voe: Tensor, slot: int, index: Tensor, logits: Tensor, target: Tensor
) -> None:
    return None


@torch.library.register_fake("bdp_ext::voe")
def _(window: Tensor) -> Tensor:
    return window.new_empty(window.shape[1])


@torch.library.register_fake("bdp_ext::capped_topk")
def _(score: Tensor, label: Tensor, cap: Tensor, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    return score.new_empty(score.shape, dtype=torch.bool), score.new_empty((), dtype=torch.int64)


def owner(op: str, device: str) -> str:
    """Who computes `op` on `device` ("cpu", "cuda", ...): "compiled", "triton" or "reference"."""
    key = device.upper()
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"bdp_ext::{op}", key):
        return "reference"
    return "compiled"
