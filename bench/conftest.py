"""`pytest bench/`: the options, the header, and a test for each case of a `Bench`.

    pytest bench/                        # one thread; everything takes about an hour
    pytest bench/bench_voe.py --quick    # a few sizes, seconds
    pytest bench/ --clock cpu            # on a machine that others use too

Tables go to bench/results/.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# torch's OpenMP reads it once, when it is loaded. Threads that spin between two parallel regions
# take the other implementations' time.
if "torch" not in sys.modules:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.pop("BDP_EXT_BACKEND", None)  # all of them are measured

import _report
import pytest
import torch
from _rounds import Bench, Result, Settings, measure

SETTINGS = pytest.StashKey[Settings]()
RESULTS = pytest.StashKey[dict[str, list[Result]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bdp_ext")
    group.addoption("--quick", action="store_true", help="few sizes, few rounds")
    group.addoption("--threads", type=int, default=1, help="torch's threads (1)")
    group.addoption("--device", help="cpu or cuda (a GPU if there is one)")
    group.addoption(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: this process's CPU time, for one thread on a busy machine (wall)",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")
    usual = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(
        device=torch.device(config.getoption("device") or usual),
        threads=config.getoption("threads"),
        quick=config.getoption("quick"),
        clock=config.getoption("clock"),
    )
    if settings.clock == "cpu" and (settings.threads > 1 or settings.device.type != "cpu"):
        raise pytest.UsageError("--clock cpu adds threads up: use it with one, on the CPU.")
    torch.set_num_threads(settings.threads)
    config.stash[SETTINGS] = settings
    config.stash[RESULTS] = {}


def pytest_report_header(config: pytest.Config) -> list[str]:
    return _report.header(config.stash[SETTINGS])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each case of the module's BENCH."""
    if "case" in metafunc.fixturenames:
        bench, quick = metafunc.module.BENCH, metafunc.config.stash[SETTINGS].quick
        metafunc.parametrize("case", bench.quick_cases if quick else bench.cases, ids=str)


@pytest.fixture
def settings(pytestconfig: pytest.Config) -> Settings:
    return pytestconfig.stash[SETTINGS]


@pytest.fixture
def add(pytestconfig: pytest.Config) -> Callable[[Result], None]:
    """Takes a result into its operation's table."""
    results = pytestconfig.stash[RESULTS]
    return lambda result: results.setdefault(result.op, []).append(result)


@pytest.fixture
def compare(
    settings: Settings, add: Callable[[Result], None], benchmark: Any
) -> Callable[[Bench, Any], None]:
    """Measures one case, and fails where an implementation is wrong. Ours goes to pytest-benchmark
    too, for `--benchmark-json` and `--benchmark-compare`."""

    def compare(bench: Bench, case: Any) -> None:
        work = bench.work(case, settings.device)
        with torch.no_grad():
            result = measure(bench, case, work, settings)
            add(result)
            if result.wrong:
                pytest.fail(f"wrong, so not timed: {result.wrong}", pytrace=False)
            benchmark.pedantic(bench.ours, work.calls[0], rounds=settings.rounds)

    return compare


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for results in config.stash[RESULTS].values():
        path = _report.write(results, config.stash[SETTINGS], Path(__file__).parent / "results")
        terminalreporter.write_line(f"\n{path.read_text()}\nwritten: {path}")
