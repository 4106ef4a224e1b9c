"""Seconds of a run that may be stopped and resumed."""

import time


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
