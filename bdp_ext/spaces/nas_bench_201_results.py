"""Where a cell stands in NAS-Bench-201: the benchmark's own file, or a table of its results."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bdp_ext.errors import UserError
from bdp_ext.spaces.nas_bench_201_cell import parse_cell

COLUMNS = (
    "cifar10_valid",
    "cifar10_test",
    "cifar100_valid",
    "cifar100_test",
    "in16_valid",
    "in16_test",
)
"""Accuracy in per cent after 200 epochs, mean over the benchmark's seeds."""


@dataclass(frozen=True)
class CellResults:
    """One architecture's results.

    Attributes:
        index: the benchmark's number of it.
        architecture: its string.
        accuracy: per cent, by the names of COLUMNS.
        flops: millions (CIFAR-10).
        params: millions (CIFAR-10).
        rank: by each accuracy, 1 is the best, among `of` architectures.
        of: architectures in the file.
    """

    index: int
    architecture: str
    accuracy: dict[str, float]
    flops: float
    params: float
    rank: dict[str, int]
    of: int


def check_architecture(architecture: str) -> None:
    """Raise UserError unless this is a cell in the benchmark's form: before its file is read, which
    may take minutes."""
    try:
        parse_cell(architecture)
    except ValueError as error:
        raise UserError(str(error)) from error


class Benchmark:
    """All results of a file.

    Args:
        file: a `.pth` of the benchmark, or a `.csv` / `.csv.gz` table with the columns index,
            arch_str, those of COLUMNS, flops and params.

    Raises:
        UserError: no such file, not such a file.
    """

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            raise UserError(f"--nb201 {file}: no such file.")
        self.file = file
        table = file.name.endswith((".csv", ".csv.gz"))
        self.rows = _read_table(file) if table else _read_api(file)

    def accuracy(self, architecture: str) -> dict[str, float]:
        """A cell's accuracies in per cent, by the names of COLUMNS.

        Raises:
            UserError: no such cell.
        """
        check_architecture(architecture)
        if architecture not in self.rows:
            raise UserError(
                f"{self.file} has {len(self.rows)} architectures, but not {architecture}."
            )
        return {column: self.rows[architecture][column] for column in COLUMNS}

    def cell(self, architecture: str) -> CellResults:
        """Look a cell up, in the benchmark's form, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`.

        Raises:
            UserError: no such cell.
        """
        accuracy, rows = self.accuracy(architecture), self.rows
        own = rows[architecture]
        return CellResults(
            index=int(own["index"]),
            architecture=architecture,
            accuracy=accuracy,
            flops=own["flops"],
            params=own["params"],
            rank={c: 1 + sum(row[c] > own[c] for row in rows.values()) for c in COLUMNS},
            of=len(rows),
        )

    def best(self, column: str) -> float:
        """The highest accuracy in the file, per cent."""
        return max(row[column] for row in self.rows.values())


def _read_table(file: Path) -> dict[str, dict[str, float]]:
    opener: Any = gzip.open if file.suffix == ".gz" else open
    numbers = ("index", *COLUMNS, "flops", "params")
    try:
        with opener(file, "rt", newline="") as text:
            return {
                row["arch_str"]: {name: float(row[name]) for name in numbers}
                for row in csv.DictReader(text)
            }
    except (OSError, EOFError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"--nb201 {file} is no table of the benchmark ({type(error).__name__}: {error}); "
            f"it needs the columns arch_str, {', '.join(numbers)}."
        ) from error


def _read_api(file: Path) -> dict[str, dict[str, float]]:
    """Through the authors' `nas_201_api`. Its defaults are 12 epochs and one random seed: ask for
    200 and the mean."""
    from nas_201_api import NASBench201API

    try:
        # By its path: given the contents, the API would copy all of them (4.7 GB) twice.
        api = NASBench201API(str(file), verbose=False)
    except Exception as error:  # whatever a foreign file makes torch or the API raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--nb201 {file} is neither a table (.csv, .csv.gz) nor a file of the benchmark "
            f"({reason[:120]})."
        ) from error
    return {api.arch(index): _ask(api, index) for index in api.evaluated_indexes}


def _ask(api: Any, index: int) -> dict[str, float]:
    def accuracy(dataset: str, split: str) -> float:
        info = api.get_more_info(index, dataset, hp="200", is_random=False)
        return float(info[f"{split}-accuracy"])

    cost = api.get_cost_info(index, "cifar10", hp="200")
    return {
        "index": index,
        "cifar10_valid": accuracy("cifar10-valid", "valid"),
        "cifar10_test": accuracy("cifar10", "test"),
        "cifar100_valid": accuracy("cifar100", "valid"),
        "cifar100_test": accuracy("cifar100", "test"),
        "in16_valid": accuracy("ImageNet16-120", "valid"),
        "in16_test": accuracy("ImageNet16-120", "test"),
        "flops": float(cost["flops"]),
        "params": float(cost["params"]),
    }
