"""A search with a folder: `config.json`, `checkpoint.pt`, `metrics.jsonl`, TensorBoard events and
`result.json`."""

import json
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import numpy as np
import torch

import bdp_ext
from bdp_ext import checkpoint
from bdp_ext.config import SearchConfig
from bdp_ext.data import load
from bdp_ext.errors import UserError
from bdp_ext.files import write_atomically, write_json
from bdp_ext.search import Search

HISTORY = (
    "epoch",
    "train",
    "valid",
    "train_balance",
    "valid_balance",
    "train_accuracy",
    "valid_accuracy",
    "architecture",
)
PRUNING = (
    "epoch",
    "level",
    "before",
    "asked",
    "taken",
    "after",
    "balance_before",
    "balance_after",
    "capped_classes",
)


class Interrupted(Exception):
    """The run was asked to stop (Ctrl-C, SIGTERM) and its state is saved."""


class Observer(Protocol):
    """Who watches a run: the command line's progress bars."""

    def started(self, search: Search) -> None: ...

    def stepped(self, search: Search) -> None: ...

    def epoch_ended(self, search: Search, record: dict[str, Any]) -> None: ...


class Folder:
    """The files of one run in `--out`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.json"
        self.checkpoint = path / "checkpoint.pt"
        self.metrics = path / "metrics.jsonl"
        self.result = path / "result.json"

    def saved_config(self) -> SearchConfig | None:
        """The settings this run was started with; None where there is no run.

        Raises:
            UserError: `config.json` is not ours.
        """
        if not self.config.exists():
            return None
        try:
            return SearchConfig(**json.loads(self.config.read_text()))
        except (ValueError, TypeError, UserError) as error:
            raise UserError(
                f"{self.config} holds no settings of a search ({error}); "
                "move it away to start again."
            ) from error

    def check(self, resume: bool) -> None:
        """Refuse to mix two runs, before anything is written.

        Raises:
            UserError: the folder holds a run that is not to be resumed.
        """
        files = [self.config, self.checkpoint, self.metrics, self.result]
        held = [file.name for file in files if file.exists()]
        if held and not resume:
            raise UserError(
                f"--out {self.path} holds a run already ({', '.join(held)}); "
                "add --resume to go on with it, or name another folder."
            )

    def make(self) -> None:
        """Make the folder.

        Raises:
            UserError: it cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.path} cannot be made: {error.strerror}.") from error

    def write_metrics(self, history: list[dict[str, Any]]) -> None:
        """A line an epoch, all of them: the checkpoint's history is what counts after a crash."""
        lines = "".join(json.dumps(record) + "\n" for record in history)
        write_atomically(self.metrics, lambda file: file.write(lines.encode()))

    def append_metrics(self, record: dict[str, Any]) -> None:
        with self.metrics.open("a") as file:
            file.write(json.dumps(record) + "\n")


def run(config: SearchConfig, out: Path, *, resume: bool, observer: Observer) -> dict[str, Any]:
    """Search, and leave everything in `out`.

    Args:
        config: the settings; of a resumed run, those it was started with.
        out: the folder.
        resume: go on with the run in `out`, from its start when it was not saved yet.
        observer: told of every step and epoch.

    Returns:
        The contents of `result.json`.

    Raises:
        UserError: bad settings, images or files.
        Interrupted: stopped by Ctrl-C or SIGTERM, after saving.
    """
    folder = Folder(out)
    folder.check(resume)
    # First everything that can be refused, then the first write.
    state = checkpoint.read(folder.checkpoint) if folder.checkpoint.exists() else None
    data = load(
        config.data,
        image_size=config.image_size,
        limit=config.limit_train,
        subset=config.subset,
        stream=config.stream,
        seed=config.seed,
    )
    search = Search(config, data)
    if state is not None:
        checkpoint.restore(state, search)
    folder.make()
    write_json(folder.config, asdict(config))
    folder.write_metrics(search.history)

    observer.started(search)
    with _events(out, search.epoch) as events, _stop_signals() as stop:
        while not search.done:
            search.step()
            if search.epoch_done:
                record = search.end_epoch()
                checkpoint.save(folder.checkpoint, search)
                folder.append_metrics(record)
                _write_events(events, record)
                observer.epoch_ended(search, record)
            else:
                observer.stepped(search)
            if stop and not search.done:
                checkpoint.save(folder.checkpoint, search)
                raise Interrupted
    result = make_result(search)
    write_json(folder.result, result)
    return result


def make_result(search: Search) -> dict[str, Any]:
    """The contents of `result.json` for a search that is done."""
    config = search.config
    samples, unpruned = search.samples(), search.samples_unpruned()
    return {
        "space": config.space,
        "method": config.method,
        "data": config.data,
        "seed": config.seed,
        "epochs": config.epochs,
        **search.space.derive(search.supernet.alphas()),
        "alpha": search.alpha[0] if len(search.alpha) == 1 else search.alpha,
        "samples": samples,
        "samples_unpruned": unpruned,
        "cost_saved": 1 - sum(samples.values()) / sum(unpruned.values()),
        "seconds": search.spent(),
        "history": [{key: record[key] for key in HISTORY} for record in search.history],
        "prunings": [{key: row[key] for key in PRUNING} for row in search.prunings()],
        "versions": {
            "bdp_ext": bdp_ext.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    }


@contextmanager
def _events(out: Path, epoch: int) -> Iterator[Any]:
    from torch.utils.tensorboard import SummaryWriter  # slow to import: only for a run

    # Steps from here on are written again: TensorBoard drops what a killed run left of them.
    with SummaryWriter(str(out), purge_step=epoch + 1) as writer:
        yield writer


def _write_events(events: Any, record: dict[str, Any]) -> None:
    for key, value in record.items():
        if isinstance(value, int | float) and key != "epoch":
            level, _, what = key.partition("_")
            events.add_scalar(f"{what or 'samples'}/{level}", value, record["epoch"])
    for number, alpha in enumerate(map(torch.tensor, record["alpha"])):
        if alpha.dim() == 1:
            continue  # strengths of edges
        weights = alpha.softmax(1)
        events.add_image(f"alpha/{number}", weights[None], record["epoch"])


@contextmanager
def _stop_signals() -> Iterator[list[int]]:
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
