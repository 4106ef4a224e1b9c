"""A job with a folder: `config.json`, `checkpoint.pt`, `metrics.jsonl`, TensorBoard events and
`result.json`; stopped or killed at any moment, it goes on from there."""

import json
import platform
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import torch

import bdp_ext
from bdp_ext.errors import UserError
from bdp_ext.runs import checkpoint
from bdp_ext.runs.files import write_atomically, write_json
from bdp_ext.runs.job import Job
from bdp_ext.runs.plugins import refuse_foreign
from bdp_ext.runs.settings import Settings, no_settings, read_plain

S = TypeVar("S", bound=Settings)
J = TypeVar("J", bound=Job[Any])
J_contra = TypeVar("J_contra", bound=Job[Any], contravariant=True)

Record = dict[str, Any]


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and its state is saved."""


class Observer(Protocol[J_contra]):
    """Who watches a run: the command line's progress bars."""

    def started(self, job: J_contra, /) -> None: ...

    def stepped(self, job: J_contra, /) -> None: ...

    def epoch_ended(self, job: J_contra, record: Record, /) -> None: ...


class Folder(Generic[S]):
    """The files of one run in `--out`.

    Args:
        path: the folder.
        settings: the class of the run's settings.
        kind: the job's.
    """

    def __init__(self, path: Path, settings: type[S], kind: str) -> None:
        self.path = path
        self.settings = settings
        self.kind = kind
        self.config = path / "config.json"
        self.checkpoint = path / "checkpoint.pt"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"

    def saved_config(self, named: Collection[object] = ()) -> S | None:
        """The settings this run was started with; None where there is no run.

        Args:
            named: code of the user's own that may be imported, as `package.module:Name`.

        Raises:
            UserError: `config.json` is not ours, or names other code of somebody's own.
        """
        values = read_plain(self.config, self.settings, self.kind)
        if values is None:
            return None
        refuse_foreign(values, named, self.config)
        try:
            return self.settings(**values)
        except UserError as error:
            raise no_settings(self.config, self.kind, error) from error

    def saved_state(self, resume: bool) -> Record | None:
        """The checkpoint to go on from; None where there is none. Nothing is written yet.

        Raises:
            UserError: the folder holds a run that is not to be resumed, or a foreign checkpoint.
        """
        files = [self.config, self.checkpoint, self.metrics, self.result]
        held = [file.name for file in files if file.exists()]
        if held and not resume:
            raise UserError(
                f"--out {self.path} holds a run already ({', '.join(held)}); "
                "add --resume to go on with it, or name another folder."
            )
        return checkpoint.read(self.checkpoint, self.kind) if self.checkpoint.exists() else None

    def make(self) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.path} cannot be made: {error.strerror}.") from error

    def write_metrics(self, history: list[Record]) -> None:
        """A line an epoch, all of them: the checkpoint's history is what counts after a crash."""
        lines = "".join(json.dumps(record, allow_nan=False) + "\n" for record in history)
        write_atomically(self.metrics, lambda file: file.write(lines.encode()))

    def append_metrics(self, record: Record) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(record, allow_nan=False) + "\n")

    def complete(
        self,
        make: Callable[[], J],
        *,
        resume: bool,
        observer: Observer[J],
        write_events: Callable[[Any, Record], None],
        result: Callable[[J], Record],
        write_more: Callable[[J], None] = lambda job: None,
    ) -> Record:
        """Do a job or what is left of it, saving it after each epoch.

        Args:
            make: makes the job.
            resume: go on with the run in the folder, from its start when it was not saved yet.
            observer: told of every step and epoch.
            write_events: writes an epoch's record to a TensorBoard `SummaryWriter`.
            result: of the job that is done, the contents of `result.json`.
            write_more: writes what else the folder holds of the job's state; called at the start
                and after each epoch.

        Returns:
            The contents of `result.json`.

        Raises:
            UserError: bad settings, images or files, or those of another run; nothing was written.
            Interrupted: stopped by Ctrl-C or SIGTERM, after saving.
        """
        # First everything that can be refused, then the first write.
        state = self.saved_state(resume)
        job = make()
        if state is not None:
            checkpoint.restore(state, job)
        self.make()
        write_json(self.config, asdict(job.config))
        self.write_metrics(job.history)
        write_more(job)
        observer.started(job)
        with _events(self.path, job.epoch) as events, stop_signals() as stop:
            while not job.done:
                job.step()
                if job.epoch_done:
                    record = job.end_epoch()
                    checkpoint.save(self.checkpoint, job)
                    self.append_metrics(record)
                    write_more(job)
                    write_events(events, record)
                    observer.epoch_ended(job, record)
                else:
                    observer.stepped(job)
                if stop and not job.done:
                    checkpoint.save(self.checkpoint, job)
                    raise Interrupted
        content = result(job)
        write_json(self.result, content)
        return content


def versions() -> dict[str, str]:
    """What computed a result."""
    return {
        "bdp_ext": bdp_ext.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


@contextmanager
def _events(out: Path, epoch: int) -> Iterator[Any]:
    from torch.utils.tensorboard import SummaryWriter  # slow to import: only for a run

    # Steps from here on are written again: TensorBoard drops what a killed run left of them.
    with SummaryWriter(str(out), purge_step=epoch + 1) as writer:
        yield writer


@contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that a run stops between two steps; the second one stops at
    once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
