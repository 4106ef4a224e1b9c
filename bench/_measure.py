"""Alternating rounds of several implementations in one process, each checked before it is timed."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"
SECONDS = 0.3
"""Time spent on each implementation of a case."""


@dataclass
class Table:
    """Rows of one benchmark file, printed and written to bench/results/ at the end."""

    name: str
    rows: list[tuple[str, str, float, float]] = field(default_factory=list)

    def text(self) -> str:
        """Markdown: the machine, then a row per case and implementation."""
        lines = [
            f"# {self.name}",
            "",
            f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), "
            f"OMP_WAIT_POLICY={os.environ.get('OMP_WAIT_POLICY', 'unset')}, "
            f"{torch.backends.cpu.get_cpu_capability()}",
            "",
            "| case | implementation | microseconds | times ours |",
            "|---|---|---|---|",
        ]
        lines += [f"| {c} | {i} | {1e6 * s:.1f} | {r:.2f} |" for c, i, s, r in self.rows]
        return "\n".join(lines) + "\n"

    def write(self) -> None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{self.name}.md").write_text(self.text())
        print("\n" + self.text())


def compare(
    table: Table,
    case: str,
    implementations: dict[str, Callable[[], Any]],
    same: Callable[[Any, Any], bool],
) -> None:
    """Time every implementation beside "ours", in turn; the ratio is the median over the rounds.

    Raises:
        AssertionError: one gives another result than "reference"; nothing is timed then.
    """
    expected = implementations["reference"]()
    for name, run in implementations.items():
        assert same(run(), expected), f"{table.name}, {case}: {name} differs from the reference"
    times: dict[str, list[float]] = {name: [] for name in implementations}
    repeats = {name: _repeats(run) for name, run in implementations.items()}
    start = time.perf_counter()
    while time.perf_counter() - start < SECONDS * len(implementations) or len(times["ours"]) < 3:
        for name, run in implementations.items():
            begin = time.perf_counter()
            for _ in range(repeats[name]):
                run()
            times[name].append((time.perf_counter() - begin) / repeats[name])
    for name, measured in times.items():
        ratios = [t / ours for t, ours in zip(measured, times["ours"], strict=True)]
        table.rows.append((case, name, statistics.median(measured), statistics.median(ratios)))


def _repeats(run: Callable[[], Any]) -> int:
    """So many that a round takes about 10 ms."""
    begin = time.perf_counter()
    run()
    return max(1, min(1000, int(0.01 / max(1e-7, time.perf_counter() - begin))))
