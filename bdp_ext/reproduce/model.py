"""What an experiment is made of: tables, their lines, and the runs behind these."""

from collections.abc import Mapping
from dataclasses import dataclass

from bdp_ext.reproduce.scale import Options

Label = tuple[str, ...]
"""The first cells of a row."""
Pair = tuple[Label, Label]
"""A row, and the one that it is compared with."""


@dataclass(frozen=True)
class Trial:
    """A search, and what its cell is trained for.

    Attributes:
        search: its own settings, with `data` by the paper's name of it.
        retrain: those of the retraining; None: the cell is looked up, or nothing is asked of it.
    """

    search: Options
    retrain: Options | None = None


Trials = Mapping[str, tuple[Trial, ...]]
"""Group of columns -> what is run with every seed for them; "" for all columns."""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        header: the paper's.
        measure: what of a run (see `measure.py`).
        group: which of a row's runs.
        show: "mean" (with the deviation) or "best".
        paper: whether the paper has it; its columns come first.
    """

    header: str
    measure: str
    group: str = ""
    show: str = "mean"
    paper: bool = True


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: its first cells.
        paper: the paper's figures, one for each of the paper's columns; none for our own lines.
        trials: none where the paper cites others.
    """

    label: Label
    paper: tuple[str, ...] = ()
    trials: Trials | None = None


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        title: of it.
        labels: headers of the rows' labels.
        columns: after them.
        rows: lines.
        compared: (row, other row): whose figures are subtracted, seed by seed, by their labels.
        measures: (header, measure) of what is compared.
    """

    title: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    compared: tuple[Pair, ...] = ()
    measures: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Experiment:
    """What `bdp reproduce NAME` does.

    Attributes:
        name: as the command line spells it.
        tables: at least one; the first one's runs are drawn.
        picture: "curves" (Fig. 3), "alphas" (Fig. 4) or none.
        notes: choices that the paper leaves open, and what it says without figures.
    """

    name: str
    tables: tuple[Table, ...]
    picture: str = ""
    notes: tuple[str, ...] = ()
