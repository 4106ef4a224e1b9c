"""Ways of pruning beside each other: a table that the paper does not have."""

from bdp_ext.pruning.baselines import PRUNERS
from bdp_ext.reproduce.lines import (
    RULES,
    accuracies,
    at_random,
    every,
    own_columns,
    search,
    shortened,
    unpruned,
)
from bdp_ext.reproduce.scale import Scale
from bdp_ext.reproduce.table import Column, Experiment, Row, Table


def pruners(scale: Scale) -> Experiment:
    bdp = search()
    special = {"bdp": bdp, "none": unpruned(bdp), "random": at_random(bdp)}
    rows = [Row((name,), (), every(special.get(name) or search(pruner=name))) for name in PRUNERS]
    rows.append(Row(("none, as cheap as bdp",), (), every(shortened(bdp, scale))))
    table = Table(
        "Ways of pruning, DARTS on NAS-Bench-201",
        ("pruner",),
        (
            *accuracies({"cifar10": ""}),
            *own_columns(),
            Column("Data (%)", "left", paper=False),
        ),
        tuple(rows),
        tuple((("bdp",), row.label) for row in rows[1:]),
        RULES,
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
