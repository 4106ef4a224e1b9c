"""The schedule of a search in stages, each with a model of its own."""

from dataclasses import dataclass
from functools import cached_property

from bdp_ext.pruning import Schedule


@dataclass(frozen=True)
class StagedSchedule(Schedule):
    """Prunings after epochs k, 2k, ... of every stage, not after a stage's last one.

    The live samples carry over to the next stage, the scores do not: they are another model's.

    Attributes:
        stages: epochs of each stage; their sum is `epochs`.
        warmup: epochs at the start of every stage before its first pruning.
    """

    stages: tuple[int, ...] = ()

    @cached_property
    def prunings(self) -> tuple[int, ...]:
        """The epochs (counted from 1, over all stages) after which a pruning happens."""
        first = self.interval * max(1, -(-self.warmup // self.interval))
        return tuple(
            end - stage + epoch
            for stage, end in zip(self.stages, self.ends, strict=True)
            for epoch in range(first, stage, self.interval)
        )

    @property
    def ends(self) -> tuple[int, ...]:
        """The epochs after which a stage is over."""
        return tuple(sum(self.stages[: i + 1]) for i in range(len(self.stages)))
