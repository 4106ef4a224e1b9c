"""What the runs behind a table's cells gave."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.special import stdtrit

from bdp_ext.errors import UserError
from bdp_ext.reproduce.measure import Measures, architectures, measure
from bdp_ext.reproduce.model import Column, Label, Row, Table
from bdp_ext.reproduce.plan import PlannedRun, run_of
from bdp_ext.reproduce.scale import Scale
from bdp_ext.spaces.nas_bench_201_results import Benchmark

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Outcome:
    """A run, and what came of it.

    Attributes:
        seed: of it.
        run: of it.
        measures: none if it failed.
        cells: what was found, by rule.
        failure: why there are no measures.
    """

    seed: int
    run: PlannedRun
    measures: Measures
    cells: Mapping[str, str]
    failure: str = ""


Outcomes = Mapping[Label, Mapping[str, Sequence[Outcome]]]
"""Label of a row -> group of columns -> outcomes, seed by seed."""


@dataclass(frozen=True)
class Summary:
    """Values of one measure, one a run or one a seed.

    Attributes:
        std: of a sample, as in the paper's tables; 0 for a single value.
        interval: where the mean of many seeds lies with a confidence of 95 %, by Student's t; None
            for a single value.
    """

    mean: float
    std: float
    best: float
    interval: tuple[float, float] | None
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Summary | None":
        """None of no values."""
        count = len(values)
        if not count:
            return None
        mean, std, interval = statistics.fmean(values), 0.0, None
        if count > 1:
            std = statistics.stdev(values)
            reach = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * std / count**0.5
            interval = mean - reach, mean + reach
        return cls(mean, std, max(values), interval, tuple(values))


OutcomeReader = Callable[[PlannedRun, int], Outcome]
"""(a run, its seed) -> what came of it."""


def from_folders(
    runs: Path, benchmark: Benchmark | None, failures: Mapping[str, str]
) -> OutcomeReader:
    """Outcomes of runs that have been made.

    Args:
        runs: the folder of all runs.
        benchmark: in which cells of NAS-Bench-201 are looked up.
        failures: name of a run -> why it has no result.
    """

    def outcome(run: PlannedRun, seed: int) -> Outcome:
        if run.name in failures:
            return Outcome(seed, run, {}, {}, failures[run.name])
        return Outcome(seed, run, measure(run, runs, benchmark), architectures(run, runs))

    return outcome


def from_record(path: Path) -> OutcomeReader:
    """Outcomes that an experiment's .json file has kept.

    Raises:
        UserError: no such file, or a run is not in it (when it is asked for).
    """
    try:
        tables = json.loads(path.read_text())["tables"]
        kept = {run["run"]: run for table in tables for row in table["rows"] for run in row["runs"]}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}.") from error
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is no record that `bdp reproduce` has written.") from error

    def outcome(run: PlannedRun, seed: int) -> Outcome:
        if run.name not in kept:
            raise UserError(
                f"{path} has no run {run.name}: give the --scale, --seeds and --set that it was "
                "written with."
            )
        found = kept[run.name]
        return Outcome(seed, run, found["measures"], found["cells"], found["failure"])

    return outcome


class Results:
    """The outcomes of a table's runs.

    Args:
        table: of them.
        scale: the runs were made at.
        seeds: how many, from 0.
        outcome: of each run.
    """

    def __init__(self, table: Table, scale: Scale, seeds: int, outcome: OutcomeReader) -> None:
        self.table = table
        self.outcomes: Outcomes = {
            row.label: {
                group: [
                    outcome(run_of(trial, scale, seed), seed)
                    for seed in range(seeds)
                    for trial in trials
                ]
                for group, trials in (row.trials or {}).items()
            }
            for row in table.rows
        }

    def of(self, label: Label, group: str) -> Sequence[Outcome]:
        """The outcomes of a row for a group of columns."""
        groups = self.outcomes[label]
        return groups.get(group, groups.get("", ()))

    def summary(self, label: Label, column: Column) -> Summary | None:
        """Of a cell of the table; None where nothing was measured."""
        values = [
            outcome.measures[column.measure]
            for outcome in self.of(label, column.group)
            if column.measure in outcome.measures
        ]
        return Summary.of(values)

    def why_not(self, row: Row, column: Column) -> str:
        """Why a cell of the table has nothing of ours."""
        if row.trials is None:
            return "not run"
        failures = {outcome.failure for outcome in self.of(row.label, column.group)} - {""}
        return "; ".join(sorted(failures))

    def by_seed(self, label: Label, measure: str) -> dict[int, float]:
        """A row's mean for each seed, over its first group's runs."""
        group = next(iter(self.outcomes[label]), "")
        found: dict[int, list[float]] = {}
        for outcome in self.of(label, group):
            if measure in outcome.measures:
                found.setdefault(outcome.seed, []).append(outcome.measures[measure])
        return {seed: statistics.fmean(values) for seed, values in found.items()}

    def differences(self, label: Label, other: Label, measure: str) -> Summary | None:
        """One row's measure less another's, seed by seed."""
        ours, theirs = self.by_seed(label, measure), self.by_seed(other, measure)
        return Summary.of([ours[seed] - theirs[seed] for seed in ours if seed in theirs])

    def ratio(self, label: Label, other: Label, measure: str) -> float | None:
        """One row's measure as a share of another's, of the same seeds."""
        ours, theirs = self.by_seed(label, measure), self.by_seed(other, measure)
        both = [seed for seed in ours if seed in theirs]
        return sum(ours[s] for s in both) / sum(theirs[s] for s in both) if both else None
