"""Runs side by side, a process each; a failed one does not stop the others."""

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bdp_ext.reproduce.plan import PlannedRun
from bdp_ext.runs.folder import Interrupted, stop_signals

LOG = "log.txt"
POLL = 0.2  # seconds between looks at the processes


@dataclass(frozen=True)
class StartedRun:
    """A run under way."""

    run: PlannedRun
    process: "subprocess.Popen[bytes]"
    lock: IO[bytes]
    since: float


class Runner:
    """Does the runs that are not finished.

    Each is `python -m bdp_ext search` or `retrain` with one CPU thread, its output in
    `<runs>/<name>/log.txt`. Its process inherits a lock on the folder: when this one is killed,
    that one goes on, and whoever wants the same run waits for it.

    Args:
        runs: the folder of all runs.
        jobs: processes at a time.
        device: as `--device` takes it.
        say: prints a line.
    """

    def __init__(self, runs: Path, jobs: int, device: str, say: Callable[[str], None]) -> None:
        self.runs = runs
        self.jobs = jobs
        self.device = device
        self.say = say

    def complete(self, runs: Sequence[PlannedRun]) -> dict[str, str]:
        """Do what is left of these runs.

        Args:
            runs: a search before what is trained after it.

        Returns:
            Name -> why, of those that failed.

        Raises:
            UserError: a folder holds a run with other settings; nothing was started.
            Interrupted: stopped by Ctrl-C or SIGTERM; the processes have saved and ended.
        """
        self.failures: dict[str, str] = {}
        self.done = {run.name for run in runs if run.finished(self.runs)}
        self.started: list[StartedRun] = []
        waiting = [run for run in runs if run.name not in self.done]
        self.say(f"{len(runs)} runs, of which {len(self.done)} are finished.")
        with stop_signals() as stop:
            while (waiting or self.started) and not stop:
                waiting = [run for run in waiting if not self._begin(run)]
                time.sleep(POLL)
                for started in self.started[:]:
                    if started.process.poll() is not None:
                        self._end(started)
            if stop:
                self._stop()
                raise Interrupted
        return self.failures

    def _begin(self, run: PlannedRun) -> bool:
        """Start a run if its turn has come; whether nothing more is to be begun of it."""
        if run.after and run.after.name in self.failures:
            self._fail(run, f"its search failed: {self.failures[run.after.name]}")
            return True
        if len(self.started) >= self.jobs or (run.after and run.after.name not in self.done):
            return False
        folder = self.runs / run.name
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # another process is at it
            lock.close()
            return False
        if run.finished(self.runs):  # it was, until just now
            lock.close()
            self.done.add(run.name)
            return True
        with (folder / LOG).open("ab") as log:
            process = subprocess.Popen(
                run.command_line(self.runs, self.device),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                pass_fds=(lock.fileno(),),
                start_new_session=True,  # Ctrl-C is passed on once, by _stop
            )
        self.started.append(StartedRun(run, process, lock, time.monotonic()))
        return True

    def _end(self, started: StartedRun) -> None:
        self.started.remove(started)
        started.lock.close()
        run, code = started.run, started.process.returncode
        if code == 0:
            self.done.add(run.name)
            total = len(self.done)
            self.say(f"{total:>4} finished  {run.name}  {time.monotonic() - started.since:.0f} s")
        elif code < 0:
            self._fail(run, f"killed by {signal.Signals(-code).name}")
        else:
            self._fail(run, _last_line(self.runs / run.name / LOG))

    def _fail(self, run: PlannedRun, why: str) -> None:
        self.failures[run.name] = why
        self.say(f"     failed    {run.name}: {why}")

    def _stop(self) -> None:
        """Let the processes save what they have."""
        for started in self.started:
            started.process.terminate()
        for started in self.started:
            started.process.wait()
            started.lock.close()


def _last_line(file: Path) -> str:
    lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1].strip().removeprefix("bdp: ") if lines else "nothing was printed"
