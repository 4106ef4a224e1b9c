"""When a level is pruned, and how many samples are to go."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

KINDS = ("geometric", "linear")
INTERVALS = (2, 5)
"""The shortest and the longest interval by default; the paper's is 5, with 50 epochs."""


def default_interval(stages: tuple[int, ...]) -> int:
    """Epochs between prunings unless one says: a quarter of the shortest stage, within 2 to 5."""
    shortest, longest = INTERVALS
    return max(shortest, min(longest, min(stages) // 4))


@dataclass(frozen=True)
class Schedule:
    """Prunings after epochs k, 2k, ... of every stage of the search, each of which has a network
    of its own.

    The epochs count from the stage's beginning. Its last one is among them, since the next stage
    then has fewer samples; the search's last one is not. None is before `warmup` epochs of the
    stage, or before its network has scored the level twice.

    Give either `ratio` or `keep`:

    - `ratio` r: every pruning asks for the share r of the level's current size ("geometric") or of
      its initial size ("linear"), rounded down. What caps hold back is not asked for again.
    - `keep`: the share of the initial size that is to be left at the end. The target sizes are
      fixed in advance, initial * keep^(j/m) ("geometric") or evenly spaced ("linear"), rounded to
      the nearest; each pruning asks for what is above its target, so that what caps held back is
      asked for again.

    Attributes:
        epochs: of the search, E; several: of each of its stages.
        interval: epochs between prunings, k >= 2; also the length of the VoE window.
        ratio: in [0, 1).
        keep: in (0, 1].
        kind: "geometric" or "linear".
        warmup: epochs of each stage before its first pruning.
        start: epochs of each stage before the level's first batch.
        one_shot: all at the first pruning: it asks for what all of them would take.

    Raises:
        ValueError: a value outside its range, both or neither of ratio and keep, or no pruning at
            all.

    Source: BDP (arXiv 2312.14200), Sec. 3.2.3: m = E/k - 1.
    """

    epochs: int | tuple[int, ...]
    interval: int
    ratio: float | None = None
    keep: float | None = None
    kind: str = "geometric"
    warmup: int = 0
    start: int = 0
    one_shot: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"schedule must be one of {', '.join(KINDS)}, got {self.kind!r}.")
        if (self.ratio is None) == (self.keep is None):
            raise ValueError("give either the share to prune each time or the final share to keep.")
        if self.ratio is not None and not 0 <= self.ratio < 1:
            raise ValueError(f"the share to prune must be in [0, 1), got {self.ratio}.")
        if self.keep is not None and not 0 < self.keep <= 1:
            raise ValueError(f"the share to keep must be in (0, 1], got {self.keep}.")
        if self.interval < 2:
            raise ValueError(
                f"interval must be at least 2 (a variance needs two scores), got {self.interval}."
            )
        for name in ("warmup", "start"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be >= 0, got {getattr(self, name)}.")
        if self.all_epochs < 3:
            raise ValueError(
                f"the search ends after epoch {self.all_epochs}, before a pruning can be, which "
                "needs two scores of a sample and an epoch after it; take three epochs or more."
            )
        if not self.prunings:
            late = f", and its first batch after {self.start} epochs" if self.start else ""
            stages = " + ".join(map(str, self.stages))
            raise ValueError(
                f"{stages} epochs leave no pruning with interval {self.interval} and warmup "
                f"{self.warmup}{late}; take a shorter interval or more epochs."
            )

    @property
    def stages(self) -> tuple[int, ...]:
        """Epochs of each stage."""
        return (self.epochs,) if isinstance(self.epochs, int) else self.epochs

    @property
    def all_epochs(self) -> int:
        """Epochs of all stages."""
        return sum(self.stages)

    @cached_property
    def stage_ends(self) -> tuple[int, ...]:
        """The epochs (counted from 1, over all stages) after which another network begins."""
        return tuple(sum(self.stages[: i + 1]) for i in range(len(self.stages) - 1))

    @cached_property
    def prunings(self) -> tuple[int, ...]:
        """The epochs (counted from 1, over all stages) after which a pruning happens."""
        first = max(self.interval, self.warmup, self.start + 2)
        prunings = tuple(
            before + epoch
            for before, stage in zip((0, *self.stage_ends), self.stages, strict=True)
            for epoch in range(self.interval, stage + 1, self.interval)
            if epoch >= first and before + epoch < self.all_epochs
        )
        return prunings[:1] if self.one_shot else prunings

    def num_requested(self, epoch: int, live: int, initial: int) -> int:
        """How many samples the pruning after `epoch` asks for.

        Args:
            epoch: one of `prunings`.
            live: the level's size now.
            initial: the level's size at the start.
        """
        if self.one_shot:
            gradual, left = replace(self, one_shot=False), initial
            for each in gradual.prunings:
                left = max(0, left - gradual.num_requested(each, left, initial))
            return max(0, live - left)
        if self.ratio is not None:
            # As written: 0.29 of 100 is 29, not int(28.999...).
            return math.floor(
                Fraction(str(self.ratio)) * (live if self.kind == "geometric" else initial)
            )
        assert self.keep is not None
        done = Fraction(self.prunings.index(epoch) + 1, len(self.prunings))
        if self.kind == "linear":
            target = round(initial * (1 - (1 - Fraction(str(self.keep))) * done))
        else:
            target = round(initial * self.keep**done)
        return max(0, live - target)
