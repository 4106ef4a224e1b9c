"""Ways of pruning beside each other: a table that the paper does not have."""

from bdp_ext.pruning.baselines import PRUNERS
from bdp_ext.reproduce.model import Column, Experiment, Table
from bdp_ext.reproduce.rows import (
    COMPARED,
    accuracies,
    at_random,
    less,
    line,
    own_columns,
    search,
    shortened,
    unpruned,
)
from bdp_ext.reproduce.scale import Scale


def pruners(scale: Scale) -> Experiment:
    bdp = search()
    special = {"bdp": bdp, "none": unpruned(bdp), "random": at_random(bdp)}
    rows = [line(name, special.get(name) or search(pruner=name)) for name in PRUNERS]
    rows.append(line("none, as cheap as bdp", shortened(bdp, scale)))
    table = Table(
        "Ways of pruning, DARTS on NAS-Bench-201",
        ("pruner",),
        (
            *accuracies({"cifar10": ""}),
            *own_columns(),
            Column("Data (%)", "left", paper=False),
        ),
        tuple(rows),
        less("bdp", rows[1:]),
        COMPARED,
    )
    return Experiment(
        "pruners",
        (table,),
        notes=(
            "All on BDP's schedule and, but for infobatch, under its class caps; what each keeps "
            "is in docs/pruners.md. el2n, grand, entropy and k-center prune once, at the first "
            "pruning, down to the final size, and are cheaper for that.",
        ),
    )
