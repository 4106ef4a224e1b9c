"""What the results become: a header, and a markdown table for each operation."""

import os
import platform
import statistics
from functools import cache
from pathlib import Path

import torch
from _rounds import Result, Settings

import bdp_ext


@cache
def header(settings: Settings) -> list[str]:
    """What the figures hold for; taken once, at the start."""
    cpu = bdp_ext.build_info()["libraries"]["cpu"]
    kind = cpu["details"].get("cpu_path", "?") if cpu["loaded"] else cpu["reason"]
    lines = [
        f"machine: {platform.system()} {platform.machine()}, {cpu_model()}, "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start",
        f"torch {torch.__version__}, python {platform.python_version()}, bdp_ext "
        f"{bdp_ext.__version__}, CPU kernels: {kind}",
        f"{settings.threads} thread{'s' * (settings.threads > 1)}, {settings.clock} clock, "
        f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}",
    ]
    if settings.device.type == "cuda":
        lines.append(f"GPU: {torch.cuda.get_device_name()}, launches included")
    return lines


def cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def table(results: list[Result]) -> str:
    """Markdown, a row for each case of one operation."""
    names = list(dict.fromkeys(name for r in results for name in (*r.wrong, *r.seconds)))
    extra = list(dict.fromkeys(name for r in results for name in r.extra))
    head = ["case", *names, *extra]
    lines = [
        f"## {results[0].op}",
        "",
        "Time of a call, the median of alternating rounds; then, how many times that of the one in "
        "bold within a round: median (least to most).",
        "",
        _row(head),
        _row(["---"] + ["---:"] * (len(head) - 1)),
    ]
    for result in results:
        cells = [_cell(result, name) for name in names]
        more = [result.extra.get(name, "-") for name in extra]
        lines.append(_row([result.case, *cells, *more]))
    return "\n".join(lines)


def _cell(result: Result, name: str) -> str:
    if name not in result.seconds:
        return "wrong" if name in result.wrong else "-"
    ours = list(result.seconds)[-1]
    time = duration(statistics.median(result.seconds[name]))
    if name == ours:
        return f"**{time}**"
    return f"{time}: {spread(result.seconds[name], result.seconds[ours])}"


def spread(these: list[float], those: list[float]) -> str:
    """How many times as long these take, within a round: median (least to most)."""
    ratios = [a / b for a, b in zip(these, those, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def write(results: list[Result], settings: Settings, folder: Path) -> Path:
    """One operation's table, in a file that its settings name."""
    place = "cuda" if settings.device.type == "cuda" else f"cpu-{settings.threads}"
    quick = "-quick" if settings.quick else ""
    folder.mkdir(exist_ok=True)
    path = folder / f"{results[0].op.rstrip('_')}-{place}{quick}.md"
    lines = "\n".join(f"- {line}" for line in header(settings))
    path.write_text(f"{table(results)}\n\n{lines}\n")
    return path


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
