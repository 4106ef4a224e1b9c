"""What is made of the results: a markdown table and a plot for each operation."""

from collections.abc import Sequence
from pathlib import Path

from _rounds import Result, Settings, Target

BUSY = 0.05  # share of the time waiting for a core from which a figure says nothing


class Replay:
    """A clock for pytest-benchmark that shows times measured before: the rounds alternate between
    implementations, which pytest-benchmark cannot do, and the statistics are its own."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def replay(self, benchmark, seconds: list[float]) -> None:
        left = iter(seconds)

        def take() -> None:
            self.now += next(left)

        benchmark.pedantic(take, rounds=len(seconds))


CLOCK = Replay()


class Report:
    """All results of a run.

    Attributes:
        header: lines that say what the figures hold for.
        copy: bytes a second of a large copy.
        results: operation to its cases' results.
    """

    def __init__(self, settings: Settings, header: list[str]) -> None:
        self.settings = settings
        self.header = header
        self.copy = 0.0
        self.results: dict[str, list[Result]] = {}
        self._targets: dict[str, Sequence[Target]] = {}

    def add(self, result: Result, targets: Sequence[Target] = ()) -> None:
        self.results.setdefault(result.op, []).append(result)
        self._targets[result.op] = targets

    def table(self, op: str) -> str:
        """Markdown: a row for each case, then the targets."""
        results = self.results[op]
        names = _names(results)
        extra = list({**self._traffic(results[0]), **results[0].extra})
        head = ["case", *names, *extra]
        lines = [
            f"## {op}",
            "",
            f"Time of a call, the median of alternating rounds; in brackets, times that of "
            f"{results[0].ours} (median of the ratios within a round).",
            f"A large copy here moves {self.copy / 1e9:.1f} GB/s.",
            *_waiting(results),
            "",
            _row(head),
            _row(["---"] + ["---:"] * (len(head) - 1)),
        ]
        for result in results:
            cells = [self._cell(result, name) for name in names]
            more = {**self._traffic(result), **result.extra}
            lines.append(_row([result.case, *cells, *(more.get(name, "-") for name in extra)]))
        notes = [
            f"- {result.case}, {name}: {text}"
            for result in results
            for name, text in (result.absent | result.wrong).items()
        ]
        return "\n".join([*lines, *(["", *notes] if notes else []), *self._reached(op)])

    def _cell(self, result: Result, name: str) -> str:
        if name not in result.seconds:
            return "wrong" if name in result.wrong else "-"
        cell = duration(result.median(name))
        if name == result.ours:
            return f"**{cell}**"
        return f"{cell} ({result.ratio(name, result.ours):.3g}x)"

    def _traffic(self, result: Result) -> dict[str, str]:
        if not result.bytes or result.ours not in result.seconds:
            return {}
        rate = result.bytes / result.median(result.ours)
        return {
            "least bytes / time": f"{rate / 1e9:.2f} GB/s",
            "of a copy": f"{rate / self.copy:.0%}",
        }

    def _reached(self, op: str) -> list[str]:
        if self.settings.device.type == "cuda" or self.settings.threads != 1:
            return []  # the targets are for one thread of a CPU
        results = {result.case: result for result in self.results[op]}
        rows = []
        for target in self._targets[op]:
            try:
                result = results[target.case]
                value = target.value(result)
            except KeyError:
                rows.append(_row([target.case, target.text, "not measured", ""]))
                continue
            verdict = "met" if target.met(value) else "**not met**"
            if self.settings.clock == "wall" and target.waited(result) > BUSY:
                verdict = f"cores were not free ({target.waited(result):.0%} waiting)"
            rows.append(_row([target.case, target.text, f"{value:.3g} {target.unit}", verdict]))
        head = [_row(["case", "target", "measured", ""]), _row(["---", "---", "---:", "---"])]
        return ["", *head, *rows] if rows else []

    def write(self, folder: Path) -> list[Path]:
        """One table and one plot for each operation; returns the files."""
        written = []
        for op in self.results:
            folder.mkdir(exist_ok=True)
            path = folder / f"{op.rstrip('_')}-{self.settings.name}.md"
            header = "\n".join(f"- {line}" for line in self.header)
            path.write_text(f"{self.table(op)}\n\n{header}\n")
            written.append(path)
            written += self._plot(op, path)
        return written

    def _plot(self, op: str, path: Path) -> list[Path]:
        """Bars for implementations, black lines for floors; time goes up by powers of ten."""
        try:
            import matplotlib.figure
        except ImportError:
            return []
        results = self.results[op]
        names = _names(results)
        floors = results[0].floors
        bars = [name for name in names if name not in floors]
        width = 0.8 / len(bars)
        figure = matplotlib.figure.Figure(figsize=(2 + 1.6 * len(results), 4.5))
        axes = figure.add_subplot()
        for i, name in enumerate(bars):
            there = [(x, r) for x, r in enumerate(results) if name in r.seconds]
            where = [x - 0.4 + (i + 0.5) * width for x, _ in there]
            axes.bar(where, [r.median(name) for _, r in there], width, label=name)
        styles = ("-", ":", "--")
        for name, style in zip(floors, styles, strict=False):
            values = [result.median(name) for result in results if name in result.seconds]
            left = [x - 0.4 for x in range(len(values))]
            right = [x + 0.4 for x in range(len(values))]
            axes.hlines(values, left, right, "black", style, label=name)
        axes.set_xticks(
            range(len(results)), [result.case.replace(", ", "\n") for result in results]
        )
        axes.set_yscale("log")
        axes.set_ylabel("seconds a call")
        axes.set_title(f"{op}\n{self.header[0]}\n{self.header[2]}", fontsize=8)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
        figure.tight_layout()
        files = [path.with_suffix(kind) for kind in (".png", ".svg")]
        for file in files:
            figure.savefig(file)
        return files


def duration(seconds: float) -> str:
    """Three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _waiting(results: list[Result]) -> list[str]:
    """The share of its time that the worst one spent without a core."""
    shares = [(share, name, r.case) for r in results for name, share in r.waited.items()]
    if not shares:
        return []
    share, name, case = max(shares)
    return [f"Waiting for a core: at most {share:.0%} of the time ({case}, {name})."]


def _names(results: list[Result]) -> list[str]:
    """Implementations, ours last, then floors."""
    names = dict.fromkeys(name for r in results for name in (*r.seconds, *r.absent, *r.wrong))
    floors = results[0].floors
    return [name for name in names if name not in floors] + floors


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
