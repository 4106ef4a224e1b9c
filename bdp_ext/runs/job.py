"""The work of a run with a folder: a search, a retraining."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from bdp_ext.errors import Diverged, UserError
from bdp_ext.runs.precision import Precision
from bdp_ext.runs.settings import Settings

S = TypeVar("S", bound=Settings)


class Job(ABC, Generic[S]):
    """Epochs of steps, with state that can be saved between any two of them.

    Args:
        config: the settings.
        fingerprint: tells the job's images from others.

    Attributes:
        kind: a word for it, in sentences and in its checkpoints.
        history: the records of the epochs that are over.
        steps: so far.

    Raises:
        UserError: there is no such device.
    """

    kind: ClassVar[str]

    def __init__(self, config: S, fingerprint: int) -> None:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        # The same seed gives the same result, also on a GPU.
        torch.backends.cudnn.deterministic = True
        self.config = config
        self.device = config.torch_device()
        self.fingerprint = fingerprint
        on_gpu = self.device.type == "cuda"
        self.precision = Precision(self.device, on_gpu if config.amp is None else config.amp)
        self.history: list[dict[str, Any]] = []
        self.steps = 0
        self.stopwatch = Stopwatch()

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return self.config.epochs

    @property
    def epoch(self) -> int:
        """Epochs that are over."""
        return len(self.history)

    @property
    def done(self) -> bool:
        """Whether it was the last one."""
        return self.epoch == self.epochs

    @property
    @abstractmethod
    def epoch_steps(self) -> int:
        """Steps of the epoch under way."""

    @property
    @abstractmethod
    def epoch_done(self) -> bool:
        """Whether the steps of the epoch under way are done."""

    @abstractmethod
    def step(self) -> None:
        """Do one step."""

    @abstractmethod
    def end_epoch(self) -> dict[str, Any]:
        """Close the epoch; its record, of plain values."""

    def check_finite(self, what: str, values: Iterable[Tensor]) -> None:
        """Raise Diverged if one of the numbers is infinite or not a number; waits for the device.

        Args:
            what: a word for them.
        """
        if not all(bool(value.isfinite().all()) for value in values):
            raise self.diverged(what)

    def diverged(self, what: str) -> Diverged:
        """That `what` is not finite, and where."""
        return Diverged(
            f"the {self.kind} has diverged: in epoch {self.epoch + 1}, after {self.steps} steps in "
            f"all, the {what} is not finite; try a smaller --lr than {self.config.lr:g}, or a "
            "smaller --clip. The last checkpoint is as it was."
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed job needs, in mid-epoch too; loads with `weights_only=True`."""
        return {
            "fingerprint": self.fingerprint,
            "precision": self.precision.state_dict(),
            "steps": self.steps,
            "history": self.history,
            "seconds": self.stopwatch.lap(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Raises:
            UserError: it is of other images.
        """
        if state["fingerprint"] != self.fingerprint:
            raise UserError(
                f"the images of {self.config.data} are not those that this {self.kind} began with; "
                "bring them back, or start again in another --out."
            )
        self.precision.load_state_dict(state["precision"])
        self.steps = state["steps"]
        self.history = state["history"]
        self.stopwatch.seconds = state["seconds"]


class Stopwatch:
    """Wall clock and CPU seconds of this process, and of those before it in the same run.

    Attributes:
        seconds: up to the last `lap`; set it to what was saved to count on.
    """

    def __init__(self) -> None:
        self.seconds = {"wall": 0.0, "cpu": 0.0}
        self._last = self._now()

    def lap(self) -> dict[str, float]:
        """Seconds so far."""
        now = self._now()
        for name, before in self._last.items():
            self.seconds[name] += now[name] - before
        self._last = now
        return dict(self.seconds)

    @staticmethod
    def _now() -> dict[str, float]:
        return {"wall": time.perf_counter(), "cpu": time.process_time()}
