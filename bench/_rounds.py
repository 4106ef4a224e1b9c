"""Times implementations of an operation side by side; every bench_<op>.py describes one `Bench`.

A case is measured once: each implementation's answer is checked, and a wrong one is not timed. Then
rounds alternate between all of them, and the things the machine cannot do faster (`Work.floors`),
in one process and in an order that changes from round to round. Ratios are the medians of the
ratios within a round, so that a machine that slows down for a while slows both sides.
"""

import gc
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bdp_ext import backend, build_info, kernels

BLOCK = 1e-3  # seconds that a round of one implementation takes at least: calls are repeated
ROUNDS = (3, 100)  # at least and at most, whatever the budget
COPY_BYTES = 2**28  # far more than any cache
FLUSH_BYTES = 2**28  # the largest L2 of a GPU so far is 126 MB


@dataclass(frozen=True)
class Settings:
    """How to measure: the command line's options."""

    device: torch.device
    threads: int
    quick: bool
    clock: str  # "wall", or "cpu" for one thread on a busy machine
    budget: float  # seconds that each implementation gets for a case

    @property
    def name(self) -> str:
        """Names the results' files."""
        place = "cuda" if self.device.type == "cuda" else f"cpu-{self.threads}"
        return f"{place}-quick" if self.quick else place


@dataclass(frozen=True)
class Work:
    """One case, ready to run.

    Attributes:
        calls: arguments; successive calls take successive ones.
        check: runs an implementation once, given as a function without arguments, and raises
            AssertionError when its answer is wrong.
        bytes: the least that a call must move.
        floors: name to function: what bounds the operation on this machine.
    """

    calls: list[tuple[Any, ...]]
    check: Callable[[Callable[[], Any]], None]
    bytes: int
    floors: dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Target:
    """A figure for ours to reach with one thread on the CPU; reported as met or not, never
    asserted.

    Attributes:
        case: which, as a string.
        text: what must be.
        value: the measured figure, from the case's result.
        met: whether it is reached.
        unit: of the figure.
        threads: of ours that is judged.
    """

    case: str
    text: str
    value: Callable[["Result"], float]
    met: Callable[[float], bool]
    unit: str = "x"
    threads: int = 1

    def waited(self, result: "Result") -> float:
        """The share of its time in which ours had no core to run on."""
        suffix = f", {self.threads} threads" if self.threads > 1 else ""
        return result.waited.get(result.ours + suffix, 0.0)


def faster(case: str, than: str, times: float) -> Target:
    """Ours is that many times faster than `than`."""
    text = f">= {times:g}x faster than {than}"
    return Target(case, text, lambda r: r.ratio(than, r.ours), lambda v: v >= times)


def within(case: str, floor: str, times: float) -> Target:
    """Ours takes at most so many times as long as a floor."""
    text = f"<= {times:g}x of {floor}"
    return Target(case, text, lambda r: r.ratio(r.ours, floor), lambda v: v <= times)


def row_cost(case: str, floor: str, rows: int, nanoseconds: float) -> Target:
    """What each row adds to a floor."""
    return Target(
        case,
        f"<= {nanoseconds:g} ns a row over {floor}",
        lambda r: r.difference(r.ours, floor) / rows * 1e9,
        lambda v: v <= nanoseconds,
        "ns",
    )


def two_threads(case: str, times: float = 1.6) -> Target:
    """Two threads are that many times faster than one."""
    return Target(
        case,
        f">= {times:g}x faster with two threads (both cores free)",
        lambda r: r.ratio(r.ours, f"{r.ours}, 2 threads"),
        lambda v: v >= times,
        threads=2,
    )


@dataclass(frozen=True)
class Implementation:
    """A function of the operation's arguments, and the context it runs in.

    Attributes:
        absent: why it cannot run here.
        may_fail: it depends on a compiler that may not be there.
    """

    function: Callable[..., Any]
    context: Callable[[], AbstractContextManager[None]] = nullcontext
    absent: str = ""
    may_fail: bool = False


@dataclass(frozen=True)
class Bench:
    """One operation's benchmark.

    Attributes:
        op: its name.
        ours: the function in `bdp_ext.ops`; every backend computes it.
        cases, quick_cases: anything whose str() names the sizes.
        work: makes a case's `Work` on a device.
        baselines: what users would write in torch; "tuned" is compiled with torch.compile too.
        numpy: the same with arrays.
        targets: issue 3's table.
    """

    op: str
    ours: Callable[..., Any]
    cases: Sequence[Any]
    quick_cases: Sequence[Any]
    work: Callable[[Any, torch.device], Work]
    baselines: dict[str, Callable[..., Any]]
    numpy: Callable[..., Any]
    targets: Sequence[Target] = ()

    def implementations(self, settings: Settings) -> dict[str, Implementation]:
        """All of them by name; ours come last."""
        libraries = build_info()["libraries"]
        found = {"reference": Implementation(self.ours, partial(backend, "reference"))}
        found |= {name: Implementation(function) for name, function in self.baselines.items()}
        compiled = torch.compile(self.baselines["tuned"], dynamic=False)
        found["compiled"] = Implementation(compiled, may_fail=True)
        # A compiled library is the dispatcher's choice. It is not forced, as users do not: that
        # would add 0.5 us to a call.
        if settings.device.type == "cuda":
            why_not = kernels.why_not(torch.empty(0, device=settings.device)) or ""
            found["triton"] = Implementation(self.ours, partial(backend, "triton"), why_not)
            found["cuda"] = Implementation(self.ours, absent=libraries["cuda"]["reason"])
            return found
        found["numpy"] = Implementation(_on_arrays(self.numpy))
        absent = libraries["cpu"]["reason"]
        if settings.threads == 1 and settings.clock == "wall" and (os.cpu_count() or 1) > 1:
            found["cpu, 2 threads"] = Implementation(self.ours, partial(_threads, 2), absent)
        found["cpu"] = Implementation(self.ours, absent=absent)
        return found


@dataclass
class Result:
    """What was measured of one case.

    Attributes:
        bytes: the least that a call must move; 0 where that says nothing.
        seconds: of a call, for every round that an implementation or a floor took part in.
        waited: share of that time that threads spent waiting for a core, by implementation.
        floors: which names are floors.
        absent: implementations that cannot run here, with the reason.
        wrong: implementations with a wrong answer, and what is wrong.
        extra: further columns of the table.
    """

    op: str
    case: str
    bytes: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)
    waited: dict[str, float] = field(default_factory=dict)
    floors: list[str] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def ours(self) -> str:
        return ours(self.seconds)

    def median(self, name: str) -> float:
        return statistics.median(self.seconds[name])

    def ratio(self, a: str, b: str) -> float:
        """How many times as long as b a takes."""
        return statistics.median(x / y for x, y in self._pairs(a, b))

    def difference(self, a: str, b: str) -> float:
        """How many seconds longer than b a takes."""
        return statistics.median(x - y for x, y in self._pairs(a, b))

    def _pairs(self, a: str, b: str) -> Iterator[tuple[float, float]]:
        # Slow ones leave early: their rounds are the first ones of the others.
        return zip(self.seconds[a], self.seconds[b], strict=False)


def ours(names: Iterable[str]) -> str:
    """Of these implementations, the one that a user gets on this device."""
    return next((name for name in ("cuda", "triton", "cpu") if name in names), "reference")


def measure(bench: Bench, case: Any, settings: Settings) -> Result:
    """Check every implementation of one case, then time the right ones."""
    torch._dynamo.reset()  # a function's ninth shape would not be compiled any more
    work = bench.work(case, settings.device)
    result = Result(bench.op, str(case), work.bytes)
    implementations = bench.implementations(settings)
    runners = {}
    for name, implementation in implementations.items():
        if implementation.absent:
            result.absent[name] = implementation.absent
            continue
        try:
            with implementation.context():
                work.check(partial(implementation.function, *work.calls[0]))
        except AssertionError as error:
            result.wrong[name] = _first_line(error)
        except Exception as error:
            if not implementation.may_fail:
                raise
            result.absent[name] = _first_line(error)
        else:
            runners[name] = Runner(implementation, work.calls, settings)
    # Floors run where ours does: the overhead of a call is that of a call of ours.
    context = implementations[ours(runners)].context
    for name, floor in work.floors.items():
        runners[name] = Runner(Implementation(floor, context), [()], settings)
        result.floors.append(name)
    result.seconds = alternate(runners)
    result.waited = {name: runner.waited for name, runner in runners.items()}
    return result


class Runner:
    """An implementation with a case's arguments, calibrated: how often a round calls it (`count`),
    and in how many rounds (`rounds`). `waited` is the share of the time without a core."""

    def __init__(
        self, implementation: Implementation, calls: list[tuple[Any, ...]], settings: Settings
    ) -> None:
        self.implementation = implementation
        self.calls = calls
        self.time = _events if settings.device.type == "cuda" else partial(_clock, settings.clock)
        self.count = 1
        self._wall = self._waited = 0.0
        for _ in range(3):  # the first calls of a short one are no measure
            once = max(self.block(0), 1e-9)
            self.count = max(1, min(10_000, round(BLOCK / once)))
        few, many = ROUNDS
        self.rounds = max(few, min(many, int(settings.budget / (once * self.count))))

    def block(self, start: int) -> float:
        """Seconds of a call, from one round, whose calls take the arguments from `start` on."""
        chosen = [self.calls[(start + i) % len(self.calls)] for i in range(self.count)]
        function = self.implementation.function
        with self.implementation.context():
            if self.count > 1:  # a short call is not to pay for what the last runner left behind
                function(*self.calls[(start - 1) % len(self.calls)])
            begin, waited = time.perf_counter(), seconds_waited()
            seconds = self.time(function, chosen) / self.count
            self._waited += seconds_waited() - waited
            self._wall += time.perf_counter() - begin
            return seconds

    @property
    def waited(self) -> float:
        return self._waited / self._wall


def alternate(runners: dict[str, Runner]) -> dict[str, list[float]]:
    """Rounds of all runners, in a new order each time, until each has had its own number."""
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    shuffle = random.Random(0).shuffle
    start = 0  # none finds in the caches what the one before it brought there
    gc.collect()
    gc.disable()
    try:
        for turn in range(max(runner.rounds for runner in runners.values())):
            left = [name for name, runner in runners.items() if turn < runner.rounds]
            shuffle(left)
            for name in left:
                seconds[name].append(runners[name].block(start))
                start += runners[name].count
    finally:
        gc.enable()
    return seconds


def seconds_waited() -> float:
    """How long this process's threads have been ready to run but had no core; 0 where the system
    does not say (it is Linux's schedstat)."""
    try:
        files = list(Path("/proc/self/task").glob("*/schedstat"))
        return sum(int(file.read_text().split()[1]) for file in files) / 1e9
    except (OSError, IndexError):
        return 0.0


def _clock(kind: str, function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> float:
    clock = time.process_time if kind == "cpu" else time.perf_counter
    begin = clock()
    for arguments in calls:
        function(*arguments)
    return clock() - begin


def _events(function: Callable[..., Any], calls: list[tuple[Any, ...]]) -> float:
    """CUDA events around every call, with a cold L2. While the flush runs, the CPU gets ahead and
    queues the call: the time is the GPU's, unless launching takes longer than flushing."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.int8, device="cuda")
    pairs = []
    for arguments in calls:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        begin.record()
        function(*arguments)
        end.record()
        pairs.append((begin, end))
    torch.cuda.synchronize()
    return sum(begin.elapsed_time(end) for begin, end in pairs) / 1e3


def copy_bandwidth(settings: Settings) -> float:
    """Bytes a second of a large copy, read and written ones together."""
    source = torch.ones(COPY_BYTES, dtype=torch.int8, device=settings.device)
    copy = torch.empty_like(source)
    runner = Runner(Implementation(copy.copy_), [(source,)], settings)
    return 2 * COPY_BYTES / statistics.median(runner.block(0) for _ in range(15))


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of numpy arrays as one of tensors; nothing is copied."""

    def on_tensors(*arguments: Any) -> Any:
        return function(*(a.numpy() if isinstance(a, Tensor) else a for a in arguments))

    return on_tensors


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def close(got: Any, expected: Tensor) -> None:
    """Raises AssertionError where a result is not the expected one to 1e-5, as users' versions
    in float32 are on these inputs; `tests/` hold ours to 1e-6."""
    got = torch.as_tensor(got, device=expected.device).double()
    torch.testing.assert_close(got, expected.double(), rtol=1e-5, atol=1e-6)
