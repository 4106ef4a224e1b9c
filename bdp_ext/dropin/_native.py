"""What the compiled library does for a forward pass (csrc/scored_pass.cpp); where there is none,
plain Python does it."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from bdp_ext import _libraries


class ScoredPass(Protocol):
    """A forward pass with its scores, which a backward pass appends to a list.

    Attributes:
        order: its number.
        turn: that of its batch.
        address: where its logits lie; 0 when they are gone.
    """

    order: int
    turn: Any
    address: int

    def put(self, row: Tensor) -> None:
        """Write the scores of those samples of row [N] float32 that have none (NaN)."""


def _nothing(*_: Any) -> Any:
    return None


_library = importlib.import_module("bdp_ext._C") if _libraries.loaded("cpu") else None
samples: Callable[[Tensor, Tensor], Any] = getattr(_library, "samples", _nothing)
score_pass: Callable[..., ScoredPass | None] = getattr(_library, "score_pass", _nothing)
hook_node: Callable[[Tensor, Callable[[Tensor], None]], bool] = getattr(
    _library, "hook_node", _nothing
)
