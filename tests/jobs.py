"""Small searches, who watches them, and the command line in a process."""

import subprocess
import sys
import time
from collections.abc import Callable

from bdp_ext.search import SearchConfig

CONFIG = SearchConfig(
    epochs=3, interval=2, channels=2, cells=1, limit_train=200, keep_train=0.5, keep_valid=0.5
)


class Silent:
    """Watches a run and says nothing; may do something at a step."""

    def __init__(self, at_step=None):
        self.at_step = at_step or {}

    def started(self, job):
        pass

    def stepped(self, job):
        self.at_step.get(job.steps, lambda: None)()

    def epoch_ended(self, job, record):
        pass


def finish(search):
    """Take all steps that are left."""
    while not search.done:
        search.step()
        if search.epoch_done:
            search.end_epoch()
    return search


def start(*arguments: object) -> "subprocess.Popen[str]":
    """`bdp` in a process, to be stopped or killed."""
    command = [sys.executable, "-m", "bdp_ext", *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_until(reached: Callable[[], object], process: "subprocess.Popen[str]") -> None:
    """Wait for a process, which must not end before."""
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
