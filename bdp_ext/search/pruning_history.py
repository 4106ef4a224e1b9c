"""`pruned.npz` in the folder of a search: what each level lost, sample by sample, as its
`PruningHistory` knows it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bdp_ext.errors import UserError
from bdp_ext.pruning.history import BINS, edges
from bdp_ext.runs.files import write_atomically
from bdp_ext.search.level import SearchLevel

NAME = "pruned.npz"


@dataclass(frozen=True)
class PruningRecord:
    """What one level has lost.

    Attributes:
        epochs: [m] int32, after which epochs it was pruned, counted from 1.
        taken: [m] int32, how many samples each pruning took.
        histograms: [m, BINS] int32, the VoE of all its live samples before each pruning.
        samples: [p] int32, the pruned samples' positions in the data set as the run loaded it:
            pruning after pruning, in each of them what the criterion takes first.
        labels: [p] int32, their classes.
        voe: [p] float32, their VoE when they were pruned.
    """

    epochs: NDArray[np.int32]
    taken: NDArray[np.int32]
    histograms: NDArray[np.int32]
    samples: NDArray[np.int32]
    labels: NDArray[np.int32]
    voe: NDArray[np.float32]

    def at(self, pruning: int) -> slice:
        """Where the samples of a pruning are, counted from 0; -1 is the last one."""
        end = self.taken.cumsum()[pruning]
        return slice(end - self.taken[pruning], end)


FIELDS = [field.name for field in fields(PruningRecord)]


def of_level(level: SearchLevel) -> PruningRecord:
    """What a level has lost so far: nothing, where it is not pruned."""
    pruner, samples = level.pruner, level.samples.cpu()
    if pruner is None:
        none = np.zeros(0, np.int32)
        return PruningRecord(none, none, none.reshape(0, BINS), none, none, none.astype(np.float32))
    gone = pruner.history.in_order(pruner.criterion)
    epochs = [pruning.epoch for pruning in pruner.prunings]
    histograms = [histogram.numpy() for histogram in pruner.history.histograms]
    return PruningRecord(
        epochs=np.array(epochs, np.int32),
        # Not how many were taken then: of other pruners' samples some may have come back.
        taken=np.array([int((pruner.history.epoch == epoch).sum()) for epoch in epochs], np.int32),
        histograms=np.array(histograms, np.int32).reshape(-1, BINS),
        samples=samples[gone].numpy().astype(np.int32),
        labels=level.labels.cpu()[gone].numpy().astype(np.int32),
        voe=pruner.history.voe.cpu()[gone].numpy(),
    )


def write(path: Path, records: Mapping[str, PruningRecord]) -> None:
    """Write a file of arrays LEVEL_FIELD, and `edges` [BINS + 1] float32 of the histograms."""
    arrays = {
        f"{name}_{field}": getattr(record, field)
        for name, record in records.items()
        for field in FIELDS
    }
    bins = edges().numpy()
    write_atomically(path, lambda file: np.savez_compressed(file, edges=bins, **arrays))


def read(path: Path, levels: Iterable[str]) -> dict[str, PruningRecord]:
    """What each of these levels has lost.

    Raises:
        UserError: no such file, a damaged or a foreign one.
    """
    try:
        # Opened here: numpy forgets to close a file that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = {
                name: PruningRecord(**{field: arrays[f"{name}_{field}"] for field in FIELDS})
                for name in levels
            }
    except Exception as error:  # a damaged file can fail anywhere in zipfile or numpy
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or no record of prunings ({reason[:120]}): bdp search --resume "
            "writes it anew from the run's checkpoint."
        ) from error
    for record in found.values():
        prunings, samples = len(record.epochs), (record.taken.sum(),)
        if not (
            record.taken.shape == (prunings,)
            and record.histograms.shape == (prunings, BINS)
            and record.samples.shape == record.labels.shape == record.voe.shape == samples
        ):
            raise UserError(f"{path} is no record of prunings of this version of bdp.")
    return found
