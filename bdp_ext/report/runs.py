"""The runs of a report, read from their folders."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bdp_ext.errors import UserError
from bdp_ext.methods import Method, find_method
from bdp_ext.pruning import LEVELS, batches_in_pass, samples_drawn
from bdp_ext.runs.plugins import refuse_foreign
from bdp_ext.runs.settings import read_plain
from bdp_ext.search import pruning_history
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.pruning_history import PruningRecord
from bdp_ext.search.run import folder
from bdp_ext.spaces import Space, find_space
from bdp_ext.spaces.nas_bench_201 import NasBench201Space
from bdp_ext.spaces.nas_bench_201_results import Benchmark
from bdp_ext.spaces.space import Names

Record = dict[str, Any]
Series = NDArray[np.float64]


@dataclass(frozen=True)
class AlphaHistory:
    """One alpha over the epochs.

    Attributes:
        edges: the names of its rows.
        candidates: those of all its candidates; P-DARTS drops some of them.
        weights: [candidates, edges, epochs], softmax of alpha; NaN where there is no candidate.
    """

    edges: list[str]
    candidates: list[str]
    weights: Series


@dataclass(frozen=True)
class RecordedRun:
    """A search, as far as it got.

    Attributes:
        name: what the legends say; unique in the report.
        settings: by the names of `SearchConfig`, plain values.
        space: of the search.
        method: of the search.
        records: of each epoch that is over, one at least.
        pruning_records: by level, what was pruned; None: there is no record of it.
        result: None for a run that is not finished.
    """

    name: str
    settings: Mapping[str, Any]
    space: Space
    method: Method
    records: list[Record]
    pruning_records: dict[str, PruningRecord] | None
    result: Record | None

    @property
    def all_epochs(self) -> int:
        """Epochs of all stages."""
        return int(self.settings["epochs"]) * self.method.stages

    @property
    def pruned(self) -> bool:
        """Whether samples are pruned in this search."""
        return bool(self.settings["bdp"]) and self.settings["pruner"] != "none"

    @property
    def in_benchmark(self) -> bool:
        """Whether NAS-Bench-201 may have its cells."""
        return bool(self.settings["space"] == NasBench201Space.name)

    @property
    def architecture(self) -> str:
        """The cell after the last epoch."""
        return str(self.records[-1]["architecture"])

    @property
    def epochs(self) -> Series:
        """[E] the epochs that are over, counted from 1."""
        return self.series("epoch")

    def series(self, key: str) -> Series:
        """[E] a number of each epoch's record; NaN where a record lacks it."""
        return np.array([record.get(key, np.nan) for record in self.records], float)

    def forwarded(self) -> Series:
        """[E] samples forwarded so far for the updates of both levels."""
        seen: Series = sum(self.series(f"{level}_seen") for level in LEVELS)  # type: ignore[assignment]
        return seen.cumsum()

    def accuracy(self, benchmark: Benchmark, column: str) -> Series:
        """[E] per cent by NAS-Bench-201 of the cell after each epoch; NaN: not in the file."""
        cells = [benchmark.rows.get(record["architecture"], {}) for record in self.records]
        return np.array([cell.get(column, np.nan) for cell in cells], float)

    def unpruned(self) -> Series:
        """[E] what that would be had nothing been pruned (`Search.samples_unpruned`)."""
        settings, first = self.settings, self.records[0]
        batch_size = settings["batch_size"]
        steps = batches_in_pass(first["train"], batch_size)
        counts = []
        valid = 0
        for epoch in range(len(self.records)):
            valid += epoch % settings["epochs"] >= settings["alpha_start"]
            epochs = {"train": epoch + 1, "valid": valid}
            counts.append(
                sum(
                    samples_drawn(first[level], batch_size, steps * epochs[level])
                    for level in LEVELS
                )
            )
        return np.array(counts, float)

    def alphas(self) -> dict[str, AlphaHistory]:
        """Every alpha over the epochs, by its name; edges' strengths are left out."""
        names = [self._names(epoch) for epoch in range(len(self.records))]
        return {kind: self._alpha(number, kind, names) for number, kind in enumerate(names[0])}

    def _alpha(self, number: int, kind: str, names: Sequence[Names]) -> AlphaHistory:
        rows = names[0][kind]
        candidates = list(dict.fromkeys(name for row in rows.values() for name in row))
        weights = np.full((len(candidates), len(rows), len(self.records)), np.nan)
        for epoch, record in enumerate(self.records):
            softmax = torch.tensor(record["alpha"][number]).softmax(1).tolist()
            for row, (own, values) in enumerate(
                zip(names[epoch][kind].values(), softmax, strict=True)
            ):
                for candidate, value in zip(own, values, strict=True):
                    weights[candidates.index(candidate), row, epoch] = value
        return AlphaHistory(list(rows), candidates, weights)

    def _names(self, epoch: int) -> Names:
        """What the numbers of an epoch's alphas stand for; the epoch counts from 0."""
        alphas = self._tensors(epoch)
        if not hasattr(self.space, "names"):  # a space of the user's own
            return {
                f"alpha {number}": {
                    str(row): [str(k) for k in range(alpha.shape[1])] for row in range(len(alpha))
                }
                for number, alpha in enumerate(alphas)
                if alpha.dim() == 2
            }
        epochs = self.settings["epochs"]
        stages = min(epoch // epochs, self.method.stages - 1)
        ends = range(epochs - 1, stages * epochs, epochs)
        return self.method.names(self.space, alphas, [self._tensors(end) for end in ends])

    def _tensors(self, epoch: int) -> list[torch.Tensor]:
        return [torch.tensor(alpha) for alpha in self.records[epoch]["alpha"]]


def read_runs(
    folders: Sequence[Path], spaces: Collection[str] = (), methods: Collection[str] = ()
) -> list[RecordedRun]:
    """Read searches, finished or not (see `read_run`), under names that tell them apart."""
    return [
        read_run(path, name, spaces, methods)
        for path, name in zip(folders, _names(folders), strict=True)
    ]


def read_run(
    path: Path, name: str, spaces: Collection[str] = (), methods: Collection[str] = ()
) -> RecordedRun:
    """Read a search, finished or not.

    A folder may come from somebody else, so that no code is imported because a file names it.

    Args:
        path: the folder.
        name: of the run.
        spaces, methods: `package.module:Name` of those that may be imported.

    Raises:
        UserError: a folder that is none of a search, a damaged file, a search without an epoch, a
            space or a method that is not ours and not among those given.
    """
    if not path.is_dir():
        raise UserError(f"{path} is no folder: give the --out of a search.")
    files = folder(path)
    settings = read_plain(files.config, SearchConfig, files.kind)
    if settings is None:
        raise UserError(f"{path} holds no {files.config.name}: give the --out of a search.")
    needed = {name: settings[name] for name in ("space", "method")}
    refuse_foreign(needed, [*spaces, *methods], path)
    space, method = find_space(settings["space"]), find_method(settings["method"])()
    records = _read_records(files.metrics)
    if not records:
        raise UserError(f"the search in {path} has not finished an epoch yet: wait for the first.")
    pruned = path / pruning_history.NAME
    return RecordedRun(
        name,
        settings,
        space,
        method,
        records,
        pruning_history.read(pruned, LEVELS) if pruned.exists() else None,
        _read_result(files.result),
    )


def _read_records(path: Path) -> list[Record]:
    """The epochs of `metrics.jsonl`, but for a last one that was not written to its end."""
    try:
        lines = path.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read ({error}).") from error
    whole = [line for line in lines if line.endswith("\n")]
    records = []
    for number, line in enumerate(whole, 1):
        try:
            records.append(_checked(json.loads(line), number))
        except (ValueError, TypeError, KeyError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else error
            raise UserError(
                f"line {number} of {path} is no epoch of a search ({reason}): bdp search --resume "
                "writes the file anew from the run's checkpoint."
            ) from error
    return records


def _checked(record: Any, number: int) -> Record:
    for level in LEVELS:
        for key in (level, *(f"{level}_{what}" for what in ("balance", "accuracy", "seen"))):
            float(record[key])
    if record["epoch"] != number:
        raise ValueError(f"it is epoch {record['epoch']}")
    if not isinstance(record["architecture"], str) or not all(
        torch.tensor(alpha).dim() in (1, 2) for alpha in record["alpha"]
    ):
        raise ValueError("no architecture and alpha")
    return dict(record)


def _read_result(path: Path) -> Record | None:
    try:
        result = json.loads(path.read_text())
        for key in ("wall", "cpu", "scoring", "selecting"):
            float(result["seconds"][key])
        str(result["versions"]["bdp_ext"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path} is no result of a search ({type(error).__name__}: {error}): "
            "bdp search --resume writes it anew."
        ) from error
    return dict(result)


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    whole = [path.resolve() for path in folders]
    for path in whole:
        if whole.count(path) > 1:
            raise UserError(f"{path} is given twice.")
    for length in range(1, 1 + max(len(path.parts) for path in whole)):
        names = ["/".join(path.parts[-length:]) for path in whole]
        if len(set(names)) == len(names):
            break
    return names
