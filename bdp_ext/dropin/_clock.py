"""When an epoch of the search ends, seen from the batches of the training level alone.

A *pass* is one iterator of the training queue. It counts for the clock by its *trained* batches:
those whose logits a backward pass reached. Passes without any (an evaluation, a look at the data)
never count.

- unit="epoch": an epoch is a pass that is over, because it is exhausted or because its iterator is
  gone (the loop broke off). Passes of a single batch, left before their end, are how a loop draws
  with `next(iter(queue))` every step: then an epoch is as many of them as the queue has batches.
- unit="step": an epoch is a fixed number of trained batches, whatever the iterators do.
- unit="manual": the loop calls `pruner.end_epoch()`.

The end is noticed when the queue is asked for the next batch, and as early as it is sure: when a
pass is exhausted and all its batches are trained, or its iterator is gone. A loader that fetches
ahead is exhausted before its last batch has been trained, which is why the rest has to wait.
"""

from collections.abc import Callable

UNITS = ("epoch", "step", "manual")


NEVER = 1 << 62


class Pass:
    """One iterator of a queue.

    Attributes:
        clock: that it counts for; None for another queue than the training queue.
        drawn, trained: its batches so far.
        exhausted: it raised StopIteration.
        over: exhausted, or its iterator is gone.
    """

    def __init__(self, clock: "Clock | None" = None) -> None:
        self.clock = clock
        self.drawn = 0
        self.trained = 0
        self.exhausted = False
        self.over = False

    def end(self, *, exhausted: bool) -> None:
        """Its last batch has been drawn."""
        self.over = True
        self.exhausted |= exhausted
        if self.clock is not None:
            self.clock.patience = 0


class Clock:
    """Says when an epoch is over.

    Args:
        unit: of `UNITS`.
        batches: how many batches the training queue has now. With unit="step" an epoch has as many
            trained ones as it says at the start.

    Attributes:
        patience: how many passes may be reached before it is to be asked; at most those after which
            an epoch can have ended.
        singly: whether the last epoch was drawn with `next(iter(queue))`.
    """

    def __init__(self, unit: str, batches: Callable[[], int]) -> None:
        self.unit = unit
        self._steps = batches()
        self._batches = batches
        self._passes: list[Pass] = []
        self._singles: list[Pass] = []
        self._trained = 0
        self.singly = False
        self.patience = self._steps if unit == "step" else NEVER

    def follow(self, batches: Callable[[], int]) -> None:
        """Another training queue takes the place of the last one."""
        self._batches = batches

    def open(self) -> Pass:
        """A new pass of the training queue."""
        new = Pass(self)
        self._passes.append(new)
        return new

    def train(self, of: Pass, batches: int) -> None:
        """So many batches of this pass have been trained, for the first time."""
        of.trained += batches
        self._trained += batches

    @property
    def begun(self) -> bool:
        """Whether a batch has been trained; asked while no epoch is over."""
        return self._trained > 0

    def epoch_over(self, asked: bool) -> bool:
        """Whether an epoch has ended since the last call that said so; to be called again then.

        Args:
            asked: the queue is asked for the next batch.
        """
        if self.unit == "step" and self._trained >= self._steps:
            self._trained -= self._steps
            return True
        over = self._passes_over(asked)
        if self.unit == "step":
            self.patience = self._steps - self._trained
        else:
            self.patience = 0 if any(one.over for one in self._passes) else NEVER
        return over and self.unit == "epoch"

    def _passes_over(self, asked: bool) -> bool:
        done = [one for one in self._passes if one.over]
        if not (done or self._singles):  # in the middle of a pass
            return False
        over = False
        for one in done:
            if one.exhausted and one.trained < one.drawn and not asked:
                continue
            self._passes.remove(one)
            if one.exhausted or one.drawn > 1:
                over |= one.trained > 0
            elif not any(other.trained for other in self._passes):  # else an extra batch
                self._singles.append(one)
        singles = sum(one.trained for one in self._singles)
        self.singly = not over and 0 < self._batches() <= singles
        over |= self.singly
        if over:
            self._singles = []
        return over

    def idle(self) -> int:
        """Batches drawn by what looks like an epoch and is over; asked before `epoch_over`."""
        over = [one for one in self._passes if one.over]
        whole = [one.drawn for one in over if one.exhausted or one.drawn > 1]
        singles = len(self._singles) + len(over) - len(whole)
        return max([*whole, singles if singles >= self._batches() else 0], default=0)

    def state_dict(self) -> dict[str, int]:
        return {"trained": self._trained, "singles": sum(one.trained for one in self._singles)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._trained = state["trained"]
        self._singles = [Pass() for _ in range(state["singles"])]
        for one in self._singles:
            one.drawn = one.trained = 1
