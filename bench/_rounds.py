"""Times implementations of an operation side by side; every bench_<op>.py describes one `Bench`.

Each implementation's answer is checked first, and a wrong one is not timed. Then all take turns in
one process. Ratios are taken within a round, so that a machine that slows down for a while slows
both sides.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from timeit import Timer
from typing import Any

import torch
from torch import Tensor

from bdp_ext import backend, build_info, kernels

SHORTEST = 5e-3  # seconds of a round of one implementation: shorter calls are repeated


@dataclass(frozen=True)
class Settings:
    """How to measure: the command line's options."""

    device: torch.device
    threads: int
    quick: bool
    clock: str  # "wall", or "cpu" for one thread on a busy machine

    @property
    def rounds(self) -> int:
        return 3 if self.quick else 9

    def now(self) -> float:
        """Seconds; a GPU has done by then what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.process_time() if self.clock == "cpu" else time.perf_counter()


@dataclass(frozen=True)
class Implementation:
    """A function, and the context it runs in."""

    function: Callable[..., Any]
    context: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True)
class Work:
    """One case, ready to run.

    Attributes:
        calls: arguments; successive calls take successive ones.
        check: runs an implementation on the first of them, given as a function without arguments,
            and raises AssertionError when its answer is wrong.
    """

    calls: list[tuple[Any, ...]]
    check: Callable[[Callable[[], Any]], None]


@dataclass(frozen=True)
class Bench:
    """One operation's benchmark.

    Attributes:
        op: its name.
        ours: the function in `bdp_ext.ops`; every backend computes it.
        eager: what a good user would write in torch; it is compiled with torch.compile too.
        cases, quick_cases: anything whose str() names the sizes.
        work: makes a case's `Work` on a device.
        numpy: what a user would write with arrays, if one would.
    """

    op: str
    ours: Callable[..., Any]
    eager: Callable[..., Any]
    cases: Sequence[Any]
    quick_cases: Sequence[Any]
    work: Callable[[Any, torch.device], Work]
    numpy: Callable[..., Any] | None = None

    def implementations(self, device: torch.device) -> dict[str, Implementation]:
        """All of them by name; last the one that a user gets."""
        found = {
            "reference": Implementation(self.ours, partial(backend, "reference")),
            "eager": Implementation(self.eager),
            "compiled": Implementation(torch.compile(self.eager, dynamic=False)),
        }
        if self.numpy and device.type == "cpu":
            found["numpy"] = Implementation(_on_arrays(self.numpy))
        if kernels.why_not(torch.empty(0, device=device)) is None:
            found["triton"] = Implementation(self.ours, partial(backend, "triton"))
        # It is not forced, as users do not: that would add 0.5 us to a call.
        if build_info()["libraries"][device.type]["loaded"]:
            found[device.type] = Implementation(self.ours)
        elif "triton" not in found:
            found["reference"] = found.pop("reference")
        return found


@dataclass
class Result:
    """What was measured of one case.

    Attributes:
        seconds: of a call, in each round, by implementation, ours last; none of a wrong one.
        wrong: what is wrong with an implementation.
        extra: further columns of the table.
    """

    op: str
    case: str
    seconds: dict[str, list[float]]
    wrong: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)


def measure(bench: Bench, case: Any, work: Work, settings: Settings) -> Result:
    """Check every implementation of one case, then time the right ones."""
    torch._dynamo.reset()  # a function's ninth shape would not be compiled any more
    calls = cycle(work.calls)  # shared: none finds in the caches what the one before it brought
    right, wrong = {}, {}
    for name, implementation in bench.implementations(settings.device).items():
        function = implementation.function
        try:
            with implementation.context():
                work.check(partial(function, *work.calls[0]))
        except Exception as error:
            wrong[name] = (str(error).strip() or type(error).__name__).splitlines()[0]
        else:
            right[name] = Implementation(_taking(function, calls), implementation.context)
    return Result(bench.op, str(case), alternate(right, settings.rounds, settings.now), wrong)


def alternate(
    implementations: dict[str, Implementation], rounds: int, now: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of a call of each, in each round; every other round goes through them backwards."""
    timers = {name: Timer(each.function, timer=now) for name, each in implementations.items()}
    counts, seconds = {}, {name: [] for name in timers}
    for name, timer in timers.items():
        with implementations[name].context():
            counts[name] = _calls_in_a_round(timer)
    for turn in range(rounds):
        for name in list(timers)[:: -1 if turn % 2 else 1]:
            with implementations[name].context():
                seconds[name].append(timers[name].timeit(counts[name]) / counts[name])
    return seconds


def _calls_in_a_round(timer: Timer) -> int:
    """Also warms up."""
    count = 1
    while timer.timeit(count) < SHORTEST:
        count *= 2
    return count


def _taking(function: Callable[..., Any], calls: cycle) -> Callable[[], Any]:
    return lambda: function(*next(calls))


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numpy arrays as one of tensors; nothing is copied."""

    def on_tensors(*arguments: Any) -> Any:
        return function(*(a.numpy() if isinstance(a, Tensor) else a for a in arguments))

    return on_tensors


def close(got: Any, expected: Tensor) -> None:
    """Raises AssertionError where a result is not the expected one to 1e-5, as users' versions
    in float32 are on these inputs; `tests/` hold ours to 1e-6."""
    got = torch.as_tensor(got, device=expected.device).double()
    torch.testing.assert_close(got, expected.double(), rtol=1e-5, atol=1e-6)
