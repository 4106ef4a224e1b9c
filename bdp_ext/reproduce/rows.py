"""The lines of the tables: searches, their controls, and the paper's figures beside them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from bdp_ext.pruning import PRUNE
from bdp_ext.reproduce import paper
from bdp_ext.reproduce.estimate import images_used, search_samples
from bdp_ext.reproduce.model import Column, Label, Pair, Row, Trial, Trials
from bdp_ext.reproduce.scale import Scale

WITHOUT_NONE = "_without_none"
"""Ends the measures of the cell that is derived without `none`."""
PRUNING = (
    "pruner",
    "prune_train",
    "prune_valid",
    "keep_train",
    "keep_valid",
    "interval",
    "criterion",
    "balance",
)
"""The settings that an unpruned search has not."""
CIFAR10 = "cifar10"
COMPARED = (
    ("CIFAR-10 test", "cifar10_test"),
    ("the same without `none`", "cifar10_test" + WITHOUT_NONE),
)


def shares(train: float, valid: float) -> dict[str, float]:
    """What each pruning takes from the two levels; the default is left out, so that equal runs have
    equal settings."""
    given = {"prune_train": train, "prune_valid": valid}
    return {name: share for name, share in given.items() if share != PRUNE}


def search(data: str = CIFAR10, **own: Any) -> Trial:
    """A search on NAS-Bench-201, unless `own` says otherwise."""
    return Trial({"data": data, **own})


def unpruned(trial: Trial, **own: Any) -> Trial:
    """The same search without pruning."""
    kept = {name: value for name, value in trial.search.items() if name not in PRUNING}
    return replace(trial, search={**kept, "bdp": False, **own})


def at_random(trial: Trial) -> Trial:
    """The control of the same sizes: samples pruned at random, under the same caps."""
    return replace(trial, search={**trial.search, "criterion": "random"})


def shortened(trial: Trial, scale: Scale, share: float | None = None) -> Trial:
    """The control of the same cost: the unpruned search for fewer epochs.

    Args:
        share: of its epochs; None: the share of the unpruned search's samples that `trial`
            forwards.
    """
    config = scale.search_config(trial.search)
    whole = scale.search_config(unpruned(trial).search)
    if share is None:
        images = images_used(config, scale.sizes[trial.search["data"]])
        share = search_samples(config, images) / search_samples(whole, images)
    own: dict[str, Any] = {"epochs": max(1, round(share * whole.epochs))}
    if whole.alpha_start:
        own["alpha_start"] = round(share * whole.alpha_start)
    return unpruned(trial, **own)


def line(label: str | Label, trials: Trial | Trials | None, paper: Label = ()) -> Row:
    """A row; a single trial is that of all columns."""
    own = (label,) if isinstance(label, str) else label
    return Row(own, paper, {"": (trials,)} if isinstance(trials, Trial) else trials)


def controls(scale: Scale, trial: Trial, name: str = "", whom: str = "BDP") -> tuple[Row, Row]:
    """Our lines beside a pruned search: as many samples at random, and as many in fewer epochs."""
    return (
        line(f"{name}random instead of {whom}", at_random(trial)),
        line(f"{name}as cheap as {whom}", shortened(trial, scale)),
    )


def less(label: str | Label, others: Iterable[str | Label | Row]) -> tuple[Pair, ...]:
    """A row compared with others."""

    def of(row: str | Label | Row) -> Label:
        if isinstance(row, Row):
            return row.label
        return (row,) if isinstance(row, str) else row

    return tuple((of(label), of(other)) for other in others)


def paper_rows(
    table: str,
    trials: Mapping[str | Label, Trial | Trials],
    labels: int = 1,
    part: slice = slice(None),
) -> tuple[Row, ...]:
    """A table's rows.

    Args:
        trials: by a row's label; of two rows of one label the first one's.
        labels: cells that are the row's label.
        part: the cells of a row that are this table.
    """
    left = dict(trials)
    rows = []
    for cells in (cells[part] for cells in paper.rows(table)):
        label = cells[:labels]
        own = left.pop(label, None) or left.pop(label[0], None)
        rows.append(line(label, own, cells[labels:]))
    if left:
        raise ValueError(f"no such rows: {', '.join(map(str, left))}.")
    return tuple(rows)


def accuracies(groups: Mapping[str, str]) -> tuple[Column, ...]:
    """Columns of NAS-Bench-201 accuracies: prefix of the benchmark's names -> group of runs."""
    headers = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "in16": "ImageNet16-120"}
    return tuple(
        Column(f"{headers[prefix]} {split}", f"{prefix}_{split}", group)
        for prefix, group in groups.items()
        for split in ("valid", "test")
    )


def own_columns(group: str = "") -> tuple[Column, ...]:
    """What we add to each table of NAS-Bench-201."""
    columns = (
        ("CIFAR-10 test without `none`", "cifar10_test" + WITHOUT_NONE),
        ("skips of 6", "skips"),
        ("samples", "samples"),
        ("extra samples", "extra"),
        ("CPU s", "cpu"),
        ("pruner's CPU s", "pruner_cpu"),
    )
    return tuple(Column(header, measure, group, paper=False) for header, measure in columns)
