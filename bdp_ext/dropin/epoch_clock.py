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


class Pass:
    """One iterator of a queue.

    Attributes:
        drawn, trained: its batches so far.
        exhausted: it raised StopIteration.
        over: exhausted, or its iterator is gone.
    """

    def __init__(self) -> None:
        self.drawn = 0
        self.trained = 0
        self.exhausted = False
        self.over = False

    def end(self, *, exhausted: bool) -> None:
        """Its last batch has been drawn."""
        self.over = True
        self.exhausted |= exhausted

    @property
    def single(self) -> bool:
        """Whether, being over, it was one `next(iter(queue))`."""
        return self.drawn <= 1 and not self.exhausted


class EpochClock:
    """Says when an epoch is over.

    Args:
        unit: of `UNITS`.
        batches: how many batches the training queue has now. With unit="step" an epoch has as many
            trained ones as it says at the start.

    Attributes:
        next_iter_style: whether the last epoch was drawn with `next(iter(queue))`.
    """

    def __init__(self, unit: str, batches: Callable[[], int]) -> None:
        self.unit = unit
        self._steps = batches()
        self._batches = batches
        self._passes: list[Pass] = []  # in their order, of the epoch under way
        self._trained = 0
        self.next_iter_style = False

    def follow(self, batches: Callable[[], int]) -> None:
        """Another training queue takes the place of the last one."""
        self._batches = batches

    def open(self) -> Pass:
        """A new pass of the training queue."""
        self._passes.append(Pass())
        return self._passes[-1]

    def train(self, of: Pass) -> None:
        """A batch of this pass has been trained, for the first time."""
        of.trained += 1
        self._trained += 1

    @property
    def begun(self) -> bool:
        """Whether a batch has been trained; asked while no epoch is over."""
        return self._trained > 0

    def may_be_over(self, reached: int) -> bool:
        """Whether an epoch may be, if each of so many forward passes trained a batch."""
        if self.unit == "step" and self._trained + reached >= self._steps:
            return True
        return self.idle() > 0

    def epoch_over(self, next_batch: bool) -> bool:
        """Whether an epoch has ended since the last call that said so; to be called again then.

        Args:
            next_batch: the queue is asked for the next batch.
        """
        if self.unit == "step" and self._trained >= self._steps:
            self._trained -= self._steps
            return True
        return self._pass_over(next_batch) and self.unit == "epoch"

    def _pass_over(self, next_batch: bool) -> bool:
        over, under_way, singles = False, [], []
        for one in self._passes:
            fetched_ahead = one.exhausted and one.trained < one.drawn and not next_batch
            if not one.over or fetched_ahead:
                under_way.append(one)
            elif not one.single:
                over |= one.trained > 0
            elif not any(longer.trained for longer in under_way):  # else an extra batch of that one
                singles.append(one)
        trained = sum(one.trained for one in singles)
        self.next_iter_style = not over and 0 < self._batches() <= trained
        over |= self.next_iter_style
        self._passes = under_way if over else [*singles, *under_way]
        return over

    def idle(self) -> int:
        """Batches drawn by what looks like an epoch and is over; asked before `epoch_over`."""
        over = [one for one in self._passes if one.over]
        whole = [one.drawn for one in over if not one.single]
        singles = len(over) - len(whole)
        return max([*whole, singles if singles and singles >= self._batches() else 0], default=0)

    def state_dict(self) -> dict[str, int]:
        singles = [one for one in self._passes if one.over and one.single]
        return {"trained": self._trained, "singles": sum(one.trained for one in singles)}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._trained = state["trained"]
        self._passes = [one for one in self._passes if not (one.over and one.single)]
        for _ in range(state["singles"]):
            one = self.open()
            one.drawn = one.trained = 1
            one.end(exhausted=False)
