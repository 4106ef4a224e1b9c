"""A search with a folder, which holds at the end what it found."""

from pathlib import Path
from typing import Any

import torch

from bdp_ext.runs.folder import Folder, Observer, versions
from bdp_ext.search import pruning_history
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search

HISTORY = (
    "epoch",
    "train",
    "valid",
    "train_balance",
    "valid_balance",
    "train_accuracy",
    "valid_accuracy",
    "architecture",
)
PRUNING = (
    "epoch",
    "level",
    "before",
    "asked",
    "taken",
    "after",
    "balance_before",
    "balance_after",
    "capped_classes",
)


def folder(out: Path) -> Folder[SearchConfig]:
    """The files of a search in `out`."""
    return Folder(out, SearchConfig, Search.kind)


def run(
    config: SearchConfig, out: Path, *, resume: bool, observer: Observer[Search]
) -> dict[str, Any]:
    """Search, and leave everything in `out` (see `Folder.complete`).

    Args:
        config: the settings; of a resumed run, those it was started with.
    """
    written = -1

    def write_pruned(search: Search) -> None:
        nonlocal written
        prunings = len(search.prunings())
        if config.pruner_class and prunings != written:
            levels = search.levels.items()
            records = {name: pruning_history.of_level(level) for name, level in levels}
            pruning_history.write(out / pruning_history.NAME, records)
            written = prunings

    return folder(out).complete(
        lambda: Search(config, config.images()),
        resume=resume,
        observer=observer,
        write_events=_write_events,
        result=make_result,
        write_more=write_pruned,
    )


def make_result(search: Search) -> dict[str, Any]:
    """The contents of `result.json` for a search that is done."""
    config = search.config
    samples, extra = search.samples(), search.samples_extra()
    unpruned = search.samples_unpruned()
    prunings = [{**row, "asked": row["num_requested"]} for row in search.prunings()]
    return {
        "space": config.space,
        "method": config.method,
        "pruner": config.pruner if config.pruner_class else "none",
        "data": config.data,
        "seed": config.seed,
        "epochs": search.epoch,
        **search.derive(),
        "alpha": search.alpha[0] if len(search.alpha) == 1 else search.alpha,
        "samples": samples,
        "samples_extra": extra,
        "samples_unpruned": unpruned,
        "cost_saved": 1 - (sum(samples.values()) + sum(extra.values())) / sum(unpruned.values()),
        "seconds": search.spent(),
        "history": [{key: record[key] for key in HISTORY} for record in search.history],
        "prunings": [{key: row[key] for key in PRUNING} for row in prunings],
        "versions": versions(),
    }


def _write_events(events: Any, record: dict[str, Any]) -> None:
    for key, value in record.items():
        if isinstance(value, int | float) and key != "epoch":
            level, _, what = key.partition("_")
            events.add_scalar(f"{what or 'samples'}/{level}", value, record["epoch"])
    for number, alpha in enumerate(map(torch.tensor, record["alpha"])):
        if alpha.dim() == 1:
            continue  # beta
        weights = alpha.softmax(1)
        events.add_image(f"alpha/{number}", weights[None], record["epoch"])
