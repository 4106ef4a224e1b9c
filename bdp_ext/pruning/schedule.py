"""When a level is pruned, and how many samples are asked for."""

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

KINDS = ("geometric", "linear")


@dataclass(frozen=True)
class Schedule:
    """Prunings after epochs k, 2k, ... below `epochs`, none before `warmup` epochs are done.

    Give either `ratio` or `keep`:

    - `ratio` r: every pruning asks for the share r of the level's current size ("geometric") or of
      its initial size ("linear"), rounded down. What caps hold back is not asked for again.
    - `keep`: the share of the initial size that is to be left at the end. The target sizes are
      fixed in advance, initial * keep^(j/m) ("geometric") or evenly spaced ("linear"), rounded to
      the nearest; each pruning asks for what is above its target, so that what caps held back is
      asked for again.

    Attributes:
        epochs: epochs of the search, E.
        interval: epochs between prunings, k >= 2; also the length of the VoE window.
        ratio: in [0, 1).
        keep: in (0, 1].
        kind: "geometric" or "linear".
        warmup: epochs before the first pruning.
        unscored: epochs after which no pruning happens, because too few scores are known then (the
            level was not used, or the network is new).
        once: all at the first pruning: it asks for what all of them would take.

    Raises:
        ValueError: a value outside its range, both or neither of ratio and keep, or no pruning at
            all.

    Source: BDP (arXiv 2312.14200), Sec. 3.2.3: m = E/k - 1.
    """

    epochs: int
    interval: int
    ratio: float | None = None
    keep: float | None = None
    kind: str = "geometric"
    warmup: int = 0
    unscored: tuple[int, ...] = ()
    once: bool = False

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
        if self.warmup < 0:
            raise ValueError(f"warmup must be >= 0, got {self.warmup}.")
        if not self.prunings:
            late = ", as too few scores are known when it is due" if self._due else ""
            raise ValueError(
                f"{self.epochs} epochs leave no pruning with interval {self.interval} and warmup "
                f"{self.warmup}{late}; take a shorter interval or more epochs."
            )

    @cached_property
    def prunings(self) -> tuple[int, ...]:
        """The epochs (counted from 1) after which a pruning happens."""
        prunings = tuple(epoch for epoch in self._due if epoch not in self.unscored)
        return prunings[:1] if self.once else prunings

    @property
    def _due(self) -> range:
        first = self.interval * max(1, math.ceil(self.warmup / self.interval))
        return range(first, self.epochs, self.interval)

    def asked(self, epoch: int, live: int, initial: int) -> int:
        """How many samples the pruning after `epoch` asks for.

        Args:
            epoch: one of `prunings`.
            live: the level's size now.
            initial: the level's size at the start.
        """
        if self.once:
            gradual, left = replace(self, once=False), initial
            for each in gradual.prunings:
                left = max(0, left - gradual.asked(each, left, initial))
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
