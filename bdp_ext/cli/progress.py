"""What a person sees of a running job: bars in a terminal, a line an epoch elsewhere."""

import time
from types import TracebackType
from typing import Any, Generic, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bdp_ext.retrain.loop import Retrain
from bdp_ext.runs.job import Job
from bdp_ext.search.loop import Search

REFRESH = 0.2
"""Seconds between looks at the accuracy: on a GPU each look waits for the device."""

J = TypeVar("J", bound=Job[Any])
Self = TypeVar("Self", bound="JobProgress[Any]")


class JobProgress(Generic[J]):
    """A bar for the epochs and one for the steps, with notes and the time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            TextColumn("{task.description:>6}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._epochs = self.bars.add_task("epochs", note="", start=False)
        self._steps = self.bars.add_task("steps", note="", start=False)
        self._looked = 0.0
        self._steps_before = 0

    def __enter__(self: Self) -> Self:
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def started(self, job: J) -> None:
        self.bars.start_task(self._epochs)
        self.bars.update(self._epochs, total=job.epochs, completed=job.epoch)
        self._begin_epoch(job)

    def stepped(self, job: J) -> None:
        now = time.monotonic()
        if self.console.is_terminal and now - self._looked > REFRESH:
            self._looked = now
            completed = job.steps - self._steps_before
            self.bars.update(self._steps, completed=completed, note=self.step_note(job))

    def epoch_ended(self, job: J, record: dict[str, Any]) -> None:
        self.bars.update(self._epochs, completed=job.epoch, note=self.epoch_note(job, record))
        first, *others = self.epoch_lines(job, record)
        for line in (f"epoch {record['epoch']:>3}/{job.epochs}  {first}", *others):
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)
        self._begin_epoch(job)

    def step_note(self, job: J) -> str:
        """Beside the bar of the steps."""
        raise NotImplementedError

    def epoch_note(self, job: J, record: dict[str, Any]) -> str:
        """Beside the bar of the epochs, from the last one's record."""
        raise NotImplementedError

    def epoch_lines(self, job: J, record: dict[str, Any]) -> list[str]:
        """What stays on the screen of an epoch."""
        raise NotImplementedError

    def _begin_epoch(self, job: J) -> None:
        self._steps_before = job.steps
        self.bars.reset(self._steps, total=job.epoch_steps)


class SearchProgress(JobProgress[Search]):
    """Set sizes, accuracy, each new cell and each pruning."""

    _architecture = ""

    def step_note(self, job: Search) -> str:
        return f"accuracy {job.train.accuracy:.1%} train, {job.valid.accuracy:.1%} valid"

    def epoch_note(self, job: Search, record: dict[str, Any]) -> str:
        return f"{job.train.size:,} train + {job.valid.size:,} valid samples"

    def epoch_lines(self, job: Search, record: dict[str, Any]) -> list[str]:
        lines = [
            f"samples {record['train']:,} + {record['valid']:,}  "
            f"accuracy {record['train_accuracy']:.1%} train, {record['valid_accuracy']:.1%} valid"
        ]
        if record["architecture"] != self._architecture:
            self._architecture = record["architecture"]
            lines.append(f"  cell {self._architecture}")
        return lines + [_pruning(row) for row in job.prunings() if row["epoch"] == record["epoch"]]


class RetrainProgress(JobProgress[Retrain]):
    """Losses and accuracies."""

    def step_note(self, job: Retrain) -> str:
        return f"accuracy {job.accuracy:.1%} train"

    def epoch_note(self, job: Retrain, record: dict[str, Any]) -> str:
        return f"top-1 {record['top1']:.2%} test" if "top1" in record else ""

    def epoch_lines(self, job: Retrain, record: dict[str, Any]) -> list[str]:
        line = (
            f"lr {record['lr']:.3g}  loss {record['train_loss']:.3f}  "
            f"accuracy {record['train_accuracy']:.1%} train"
        )
        if "top1" in record:
            line += f", {record['top1']:.2%} test (top-5 {record['top5']:.2%})"
        return [line]


def _pruning(row: dict[str, Any]) -> str:
    text = f"  pruned {row['level']}: {row['before']:,} -> {row['after']:,}"
    if row["taken"] < row["num_requested"]:
        text += f" ({row['num_requested']:,} asked"
        if row["capped_classes"]:
            text += f"; at their cap: {', '.join(row['capped_classes'])}"
        if row["unscored"]:
            text += f"; {row['unscored']:,} not seen often enough"
        text += ")"
    return text + f", class balance {row['balance_before']:.3f} -> {row['balance_after']:.3f}"
