"""The records of batches and of forward passes: the compiled library's (csrc/dropin), which also
scores the usual pass on the CPU, or plain Python where there is no library."""

from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor

from bdp_ext.ops import libraries

__all__ = [
    "CriterionHook",
    "Drawn",
    "ScoredPass",
    "Turn",
    "Watch",
    "hook_node",
    "pack_index",
    "samples",
    "settle",
]


class ScoredPass(Protocol):
    """A forward pass with its scores, which a backward pass appends to `Watch.reached`; of the
    library only.

    Attributes:
        order: its number.
        turn: that of its batch.
        address: where its logits lie; 0 when they are gone.
    """

    order: int
    turn: "Turn"
    address: int


if TYPE_CHECKING or not libraries.loaded("cpu"):

    class Turn:
        """What is kept of a batch until its scores are written down: little, because memory that
        comes back late is cold.

        Attributes:
            level: its level.
            of: the pass of its queue that it belongs to.
            scored: the number of the forward pass that it was last scored by; 0: it never was.
        """

        scored = 0

        def __init__(self, level: Any, of: Any) -> None:
            self.level = level
            self.of = of

    class Drawn:
        """A batch of one level, as the loop got it.

        Attributes:
            turn: its level and its pass.
            index: its samples, as the data set numbers them, one per row: of `pack_index`.
            target: [B] the loader's own label tensor; kept, so that its address stays its own.
        """

        def __init__(self, level: Any, of: Any, index: bytes, target: Tensor) -> None:
            self.turn = Turn(level, of)
            self.index = index
            self.target = target

    class Watch:
        """What is known of the forward passes.

        Attributes:
            calls: how often a hooked module was called, in any mode; the number of the newest pass.
            reached: those that count, in no order, perhaps more than once.
            levels: the batches drawn lately, of each level, the newest first.
            newest, target: the newest of those a backward pass may reach, and the criterion's
                target.
            strange: whether that target is not a label tensor as a loader yielded it.
        """

        reached: list[Any]
        levels: Mapping[str, Sequence[Any]]
        newest: Any = None
        target: Tensor | None = None
        calls = 0
        strange = False

    class CriterionHook:
        """A forward hook. The library's notes a call with logits and the newest labels of a level
        itself, as long as none was strange.

        Attributes:
            watch: gives the watch, or None when it is gone.
        """

        watch: Callable[[], Any]

        def __call__(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
            self.note(module, args, kwargs, output)

        def note(self, module: Any, args: Any, kwargs: Any, output: Any) -> None:
            """Note any call."""
            raise NotImplementedError

    def pack_index(index: Sequence[Any]) -> bytes:
        """Integers as bytes, 32 bits each.

        Raises:
            TypeError, OverflowError: they are something else.
        """
        return array("i", index).tobytes()

    def samples(labels: Tensor, position: Tensor) -> Any:
        """What the library reads of a level to score its batches, from [N] int64 each."""
        return None

    def settle(reached: list[Any], began: int) -> dict[Any, int] | None:
        """Empty this list of passes and write down their scores, in their order, in their level's
        `row`: of each batch once, unless a pass after number `began` scored it before, and of the
        samples that have none (NaN).

        Returns:
            For each `Turn.of`, how many of its batches were scored for the first time. None, and
            nothing is done, where not all are of the library's `ScoredPass`.
        """
        return None

    def hook_node(tensor: Tensor, hook: Callable[[Tensor], None]) -> bool:
        """`tensor.register_hook` without its handle, and for the first backward pass only; False
        where it cannot be done."""
        return False

else:
    from bdp_ext._C import (
        CriterionHook,
        Drawn,
        Turn,
        Watch,
        hook_node,
        pack_index,
        samples,
        settle,
    )
