"""What a person sees of a running search: bars in a terminal, a line an epoch elsewhere."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from bdp_ext.search import Search

REFRESH = 0.2
"""Seconds between looks at the accuracy: on a GPU each look waits for the device."""


class SearchProgress:
    """A bar for the epochs and one for the steps, with set sizes, accuracy and the time left."""

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
        self._architecture = ""

    def __enter__(self) -> "SearchProgress":
        self.bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.bars.stop()

    def started(self, search: Search) -> None:
        self.bars.start_task(self._epochs)
        self.bars.update(self._epochs, total=search.config.all_epochs, completed=search.epoch)
        self._begin_epoch(search)

    def stepped(self, search: Search) -> None:
        now = time.monotonic()
        if self.console.is_terminal and now - self._looked > REFRESH:
            self._looked = now
            self.bars.update(
                self._steps,
                completed=search.steps - self._steps_before,
                note=f"accuracy {search.train.accuracy:.1%} train, "
                f"{search.valid.accuracy:.1%} valid",
            )

    def epoch_ended(self, search: Search, record: dict[str, Any]) -> None:
        self.bars.update(
            self._epochs,
            completed=search.epoch,
            note=f"{search.train.size:,} train + {search.valid.size:,} valid samples",
        )
        self._say(
            f"epoch {record['epoch']:>3}/{search.config.all_epochs}  "
            f"samples {record['train']:,} + {record['valid']:,}  "
            f"accuracy {record['train_accuracy']:.1%} train, {record['valid_accuracy']:.1%} valid"
        )
        if record["architecture"] != self._architecture:
            self._architecture = record["architecture"]
            self._say(f"  cell {self._architecture}")
        for row in search.prunings():
            if row["epoch"] == record["epoch"]:
                self._say(_pruning(row))
        self._begin_epoch(search)

    def _say(self, line: str) -> None:
        self.console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _begin_epoch(self, search: Search) -> None:
        self._steps_before = search.steps
        self.bars.reset(self._steps, total=search.epoch_steps)


def _pruning(row: dict[str, Any]) -> str:
    text = f"  pruned {row['level']}: {row['before']:,} -> {row['after']:,}"
    if row["taken"] < row["asked"]:
        text += f" ({row['asked']:,} asked"
        if row["capped_classes"]:
            text += f"; at their cap: {', '.join(row['capped_classes'])}"
        if row["unscored"]:
            text += f"; {row['unscored']:,} not seen often enough"
        text += ")"
    return text + f", class balance {row['balance_before']:.3f} -> {row['balance_after']:.3f}"
