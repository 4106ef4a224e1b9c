"""`pytest bench/`: the options, the header, and one measurement for each case of a `Bench`.

    pytest bench/                        # one thread; everything takes about an hour
    pytest bench/bench_voe.py --quick    # a few sizes, seconds
    pytest bench/ --clock cpu            # on a machine that others use too

Tables and plots go to bench/results/.
"""

import os
import platform
import sys
from pathlib import Path

# Before torch is loaded: its OpenMP reads it once. Threads that spin between two parallel regions
# take the other implementations' time.
LATE = "torch" in sys.modules
if not LATE:
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
os.environ.pop("BDP_EXT_BACKEND", None)  # all of them are measured

import pytest  # noqa: E402
import torch  # noqa: E402
from _report import CLOCK, Report  # noqa: E402
from _rounds import Result, Settings, copy_bandwidth, measure  # noqa: E402

import bdp_ext  # noqa: E402

RESULTS = Path(__file__).parent / "results"
REPORT = pytest.StashKey[Report]()
SETTINGS = pytest.StashKey[Settings]()


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
    group.addoption(
        "--budget", type=float, help="seconds for each implementation of a case (2; quick: 0.2)"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("python_files", "bench_*.py")
    quick = config.getoption("quick")
    settings = Settings(
        device=torch.device(
            config.getoption("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        ),
        threads=config.getoption("threads"),
        quick=quick,
        clock=config.getoption("clock"),
        budget=config.getoption("budget") or (0.2 if quick else 2.0),
    )
    if settings.clock == "cpu" and (settings.threads > 1 or settings.device.type != "cpu"):
        raise pytest.UsageError("--clock cpu adds threads up: use it with one, on the CPU.")
    torch.set_num_threads(settings.threads)
    config.stash[SETTINGS] = settings
    config.stash[REPORT] = Report(settings, header(settings))


def pytest_report_header(config: pytest.Config) -> list[str]:
    return config.stash[REPORT].header


def header(settings: Settings) -> list[str]:
    """What the figures hold for."""
    info = bdp_ext.build_info()
    cpu = info["libraries"]["cpu"]
    kind = cpu["details"].get("cpu_path", "?") if cpu["loaded"] else cpu["reason"]
    busy = f"load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "load unknown"
    policy = os.environ.get("OMP_WAIT_POLICY", "unset")
    lines = [
        f"machine: {platform.system()} {platform.machine()}, {cpu_model()}, "
        f"{os.cpu_count()} cores, {busy} at the start",
        f"torch {torch.__version__}, python {platform.python_version()}, bdp_ext "
        f"{bdp_ext.__version__}, CPU kernels: {kind}",
        f"{settings.threads} thread{'s' * (settings.threads > 1)}, {settings.clock} clock, "
        f"OMP_WAIT_POLICY={policy}{' (too late: set it before pytest starts)' * LATE}",
    ]
    if settings.device.type == "cuda":
        lines.append(f"GPU: {torch.cuda.get_device_name()}, CUDA events, cold L2")
    return lines


def cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown CPU"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each case and implementation of the module's BENCH."""
    if "result" not in metafunc.fixturenames:
        return
    bench, settings = metafunc.module.BENCH, metafunc.config.stash[SETTINGS]
    cases = bench.quick_cases if settings.quick else bench.cases
    marked = [
        pytest.param(
            case,
            id=str(case),
            marks=pytest.mark.benchmark(group=f"{bench.op} {case}", timer=CLOCK),
        )
        for case in cases
    ]
    metafunc.parametrize("result", marked, indirect=True, scope="module")
    metafunc.parametrize("implementation", list(bench.implementations(settings)))


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    return pytestconfig.stash[SETTINGS]


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config, settings: Settings) -> Report:
    report = pytestconfig.stash[REPORT]
    report.copy = copy_bandwidth(settings)
    return report


@pytest.fixture(scope="module")
def result(request: pytest.FixtureRequest, settings: Settings, report: Report) -> Result:
    """Measured once for all of the case's implementations; its tensors are gone by then."""
    bench = request.module.BENCH
    with torch.no_grad():
        found = measure(bench, request.param, settings)
    report.add(found, bench.targets)
    return found


@pytest.fixture
def show(benchmark):
    """Hands one implementation's measured rounds to pytest-benchmark."""

    def show(result: Result, implementation: str) -> None:
        if implementation in result.absent:
            pytest.skip(result.absent[implementation])
        if implementation in result.wrong:
            pytest.fail(f"wrong, so not timed: {result.wrong[implementation]}", pytrace=False)
        CLOCK.replay(benchmark, result.seconds[implementation])

    return show


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    report = config.stash[REPORT]
    for op in report.results:
        terminalreporter.write_line("")
        terminalreporter.write_line(report.table(op))
    for path in report.write(RESULTS):
        terminalreporter.write_line(f"written: {path}")
