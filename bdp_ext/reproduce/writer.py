"""An experiment's results as Markdown, CSV and JSON."""

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bdp_ext.reproduce.model import Column, Experiment, Label, Row, Table
from bdp_ext.reproduce.results import OutcomeReader, Results, Summary
from bdp_ext.reproduce.scale import Scale
from bdp_ext.runs.files import write_atomically, write_json
from bdp_ext.spaces.nas_bench_201_results import Benchmark

DECIMALS = {
    "samples": 0,
    "extra": 0,
    "skips": 1,
    "cpu": 1,
    "left": 1,
    "hours": 3,
    "days": 4,
    "balance_train": 3,
    "balance_valid": 3,
    "eigenvalue_largest": 3,
    "eigenvalue_last": 3,
}
"""Of a measure; the others have two."""
COSTS = (("samples", "samples"), ("CPU seconds", "cpu"))


class Writer:
    """Writes `<name>.md`, `<name>.csv` and `<name>.json`.

    Args:
        experiment: what was wanted for.
        scale: it was run at.
        seeds: how many.
        source: what came of the runs of its tables.
        benchmark: in which cells were looked up.
    """

    def __init__(
        self,
        experiment: Experiment,
        scale: Scale,
        seeds: int,
        source: OutcomeReader,
        benchmark: Benchmark | None,
    ) -> None:
        self.experiment = experiment
        self.scale = scale
        self.seeds = seeds
        self.results = [Results(table, scale, seeds, source) for table in experiment.tables]
        self.benchmark = benchmark

    def write(self, out: Path, pictures: Sequence[Path]) -> str:
        """Write the three files.

        Args:
            out: folder for them.
            pictures: one in several formats, in the same folder; the Markdown shows the first.

        Returns:
            A line that says what is there.
        """
        path = out / self.experiment.name
        _write_text(path.with_suffix(".md"), "\n".join(self._markdown(pictures[:1])) + "\n")
        _write_text(path.with_suffix(".csv"), self._csv())
        write_json(path.with_suffix(".json"), self._json())
        there = (picture.suffix for picture in pictures if picture.exists())
        return f"wrote {path}{', '.join(['.md', '.csv', '.json', *there])}"

    def _markdown(self, pictures: Sequence[Path]) -> Iterable[str]:
        yield f"# {self.experiment.name} at the {self.scale.name} scale, {self.seeds} seeds"
        yield ""
        yield (
            "Accuracies are in per cent; ± is the sample standard deviation over the seeds, as in "
            "the paper. The paper's figures are beside ours."
        )
        for picture in pictures:
            yield from ("", f"![{picture.stem}]({picture.name})")
        for results in self.results:
            yield from ("", f"## {results.table.title}", "")
            yield from _grid(*self._layout(results))
            if results.table.compared:
                yield from ("", "### Differences, seed by seed", "")
                yield from _grid(*self._differences(results))
            yield from ("", "### Every run", "")
            yield from _grid(*self._runs(results))
        remarks = [*self.experiment.notes, *self._chance()]
        if remarks:
            yield from ("", "## Notes", "", *(f"- {remark}" for remark in remarks))
        if self.scale.scaled_down:
            yield from ("", "## Scaled down", "", *(f"- {n}" for n in self.scale.scaled_down))

    def _layout(self, results: Results) -> tuple[list[str], list[list[str]]]:
        """The paper's table, each of its columns followed by ours."""
        table = results.table
        heads = list(table.labels)
        for column in table.columns:
            heads += [f"{column.header}, paper", "ours"] if column.paper else [column.header]
        lines = []
        for row in table.rows:
            line = list(row.label)
            for column, printed in _columns(table, row):
                if column.paper:
                    line.append(printed)
                line.append(self._cell(results, row, column))
            lines.append(line)
        return heads, lines

    def _cell(self, results: Results, row: Row, column: Column) -> str:
        if not column.measure:
            return ""
        summary = results.summary(row.label, column)
        if summary is None:
            return results.why_not(row, column)
        found, wanted = len(summary.values), len(results.of(row.label, column.group))
        return _show(summary, column) + (f" ({found} of {wanted})" if found < wanted else "")

    def _differences(self, results: Results) -> tuple[list[str], list[list[str]]]:
        table = results.table
        heads = ["line", "less line"]
        for header, _ in table.measures:
            heads += [header, "mean", "95 % interval"]
        heads += [f"share of its {header}" for header, _ in COSTS]
        lines = []
        for label, other in table.compared:
            line = [_join(label), _join(other)]
            for _, measure in table.measures:
                line += _difference(results.differences(label, other, measure))
            for _, measure in COSTS:
                ratio = results.ratio(label, other, measure)
                line.append("" if ratio is None else f"{100 * ratio:.0f} %")
            lines.append(line)
        return heads, lines

    def _runs(self, results: Results) -> tuple[list[str], list[list[str]]]:
        """Each run once, with the measures of the table and what it found by each rule."""
        table = results.table
        measures = list(dict.fromkeys(c.measure for c in table.columns if c.measure))
        outcomes = {
            outcome.run.name: outcome
            for row in table.rows
            for group in row.trials or {}
            for outcome in results.of(row.label, group)
        }
        rules = list(dict.fromkeys(rule for o in outcomes.values() for rule in o.cells))
        lines = []
        for name, outcome in outcomes.items():
            known = outcome.measures
            line = [name, *(_number(known[m], m) if m in known else "" for m in measures)]
            line += [outcome.cells.get(rule, outcome.failure) for rule in rules]
            lines.append([text.replace("|", "\\|") for text in line])
        return ["run", *measures, *rules], lines

    def _chance(self) -> list[str]:
        """What a cell drawn at random is worth."""
        if self.benchmark is None:
            return []
        values = [row["cifar10_test"] for row in self.benchmark.rows.values()]
        return [
            f"A cell drawn at random from the benchmark's {len(values):,}: CIFAR-10 test accuracy "
            f"{statistics.fmean(values):.2f} on average, {statistics.median(values):.2f} in the "
            "median."
        ]

    def _csv(self) -> str:
        """A line for each cell of the tables."""
        text = io.StringIO()
        write = csv.writer(text, lineterminator="\n").writerow
        write(["table", "line", "column", "paper", "mean", "std", "best", "values"])
        for results in self.results:
            for row in results.table.rows:
                for column, printed in _columns(results.table, row):
                    summary = results.summary(row.label, column)
                    ours: list[Any] = [""] * 4
                    if summary:
                        values = " ".join(map(str, summary.values))
                        ours = [summary.mean, summary.std, summary.best, values]
                    title = results.table.title
                    write([title, _join(row.label), column.header, printed, *ours])
        return text.getvalue()

    def _json(self) -> dict[str, Any]:
        return {
            "experiment": self.experiment.name,
            "scale": self.scale.name,
            "seeds": self.seeds,
            "scaled_down": list(self.scale.scaled_down),
            "notes": list(self.experiment.notes),
            "tables": [self._json_table(results) for results in self.results],
        }

    def _json_table(self, results: Results) -> dict[str, Any]:
        table = results.table
        rows = []
        for row in table.rows:
            columns = [
                {
                    "header": column.header,
                    "measure": column.measure,
                    "paper": printed if column.paper and row.paper else None,
                    "ours": _json(results.summary(row.label, column)),
                }
                for column, printed in _columns(table, row)
            ]
            runs = [
                {"group": group, **asdict(outcome), "run": outcome.run.name}
                for group in row.trials or {}
                for outcome in results.of(row.label, group)
            ]
            rows.append({"label": row.label, "columns": columns, "runs": runs})
        differences = [
            {
                "line": label,
                "less": other,
                **{m: _json(results.differences(label, other, m)) for _, m in table.measures},
                **{f"share_of_{m}": results.ratio(label, other, m) for _, m in COSTS},
            }
            for label, other in table.compared
        ]
        return {"title": table.title, "rows": rows, "differences": differences}


def _columns(table: Table, row: Row) -> Iterator[tuple[Column, str]]:
    """The columns, and what the paper prints there."""
    printed = iter(row.paper)
    for column in table.columns:
        yield column, next(printed, "") if column.paper else ""


def _show(summary: Summary, column: Column) -> str:
    both = f"{_number(summary.mean, column.measure)} ± {_number(summary.std, column.measure)}"
    if column.show == "best":
        return f"{_number(summary.best, column.measure)} ({both})"
    return both if len(summary.values) > 1 else _number(summary.mean, column.measure)


def _number(value: float, measure: str) -> str:
    return f"{value:,.{DECIMALS.get(measure, 2)}f}"


def _difference(summary: Summary | None) -> list[str]:
    """Every seed's, their mean and deviation, and the interval with what it says."""
    if summary is None:
        return ["", "", ""]
    seeds = ", ".join(f"{value:+.2f}" for value in summary.values)
    interval = "one seed: says nothing"
    if summary.interval:
        low, high = summary.interval
        verdict = ": holds 0, shows nothing" if low <= 0 <= high else ""
        interval = f"{low:+.2f} to {high:+.2f}{verdict}"
    return [seeds, f"{summary.mean:+.2f} ± {summary.std:.2f}", interval]


def _json(summary: Summary | None) -> dict[str, Any] | None:
    return None if summary is None else asdict(summary)


def _join(label: Label) -> str:
    return " / ".join(part for part in label if part)


def _grid(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [heads, ["---"] * len(heads), *lines]
    return [f"| {' | '.join(row)} |" for row in rows]


def _write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda file: file.write(text.encode()))
