"""The paper's experiments on NAS-Bench-201: Tables 1 to 4 and 7, Figures 3 and 4."""

from collections.abc import Callable
from dataclasses import replace

from bdp_ext.reproduce import paper
from bdp_ext.reproduce.estimate import images_used
from bdp_ext.reproduce.model import Column, Experiment, Label, Row, Table, Trial, Trials
from bdp_ext.reproduce.rows import (
    CIFAR10,
    COMPARED,
    accuracies,
    all_columns,
    at_random,
    own_columns,
    paper_rows,
    search,
    shares,
    shortened,
    unpruned,
)
from bdp_ext.reproduce.scale import Options, Scale


def table1(scale: Scale) -> Experiment:
    splits = {f"{10 * s:.0f} : {10 * (1 - s):.0f}": s for s in (0.1, 0.3, 0.5, 0.7, 0.9)}
    rows = paper_rows(
        paper.TABLE1,
        {k: all_columns(unpruned(search(train_share=s))) for k, s in splits.items()},
        1,
    )
    controls = tuple(
        Row(
            (f"5 : 5, as many steps as {label}",),
            (),
            all_columns(shortened(search(), scale, 2 * share)),
        )
        for label, share in splits.items()
        if share != 0.5
    )
    pairs = [(label, "5 : 5") for label in splits if label != "5 : 5"]
    pairs += [(label, f"5 : 5, as many steps as {label}") for label, _ in pairs]
    table = Table(
        "Table 1. Splits of training and validation set, DARTS on NAS-Bench-201",
        ("T : V",),
        accuracies({"cifar10": "", "cifar100": ""}) + own_columns(),
        rows + controls,
        tuple(((a,), (b,)) for a, b in pairs),
        COMPARED,
    )
    return Experiment(
        "table1",
        (table,),
        notes=(
            "An epoch is a pass over the training set, so that the split also sets how many steps "
            "a search has; hence our lines of the equal split for as many steps. Nothing is "
            "pruned.",
            "The paper's columns are of one cell each, searched on CIFAR-10: its line 7 : 3 is "
            "the benchmark's cell 2299 on both data sets.",
        ),
    )


def table2(scale: Scale) -> Experiment:
    half: Options = {"pruner": "el2n", "keep_train": 0.5, "keep_valid": 0.5}
    combinations = [(a, b) for a in ("Low", "High") for b in ("Low", "High")]
    baseline = unpruned(search())
    trials: dict[str | Label, Trials] = {
        pair: all_columns(search(criterion=f"{pair[0]}-{pair[1]}".lower(), **half))
        for pair in combinations
    }
    trials["DARTS [26]"] = all_columns(baseline)
    fewer = images_used(scale.search_config(baseline.search), scale.sizes[CIFAR10]) // 2
    pruned = search(criterion="low-high", **half)
    controls = (
        Row(("random half", ""), (), all_columns(unpruned(search(limit_train=fewer)))),
        Row(("as cheap as EL2N", ""), (), all_columns(shortened(pruned, scale))),
    )
    others = [("DARTS [26]", ""), *(row.label for row in controls)]
    table = Table(
        "Table 2. One-shot EL2N pruning of 50 % of both levels, DARTS on NAS-Bench-201",
        ("T", "V"),
        accuracies({"cifar10": "", "cifar100": ""}) + own_columns(),
        paper_rows(paper.TABLE2, trials, 2) + controls,
        tuple((pair, other) for pair in combinations for other in others),
        COMPARED,
    )
    return Experiment(
        "table2",
        (table,),
        notes=(
            "EL2N is the mean error of the first five epochs, after which half of each level goes; "
            "the random half is the only one from the start.",
        ),
    )


def table3(scale: Scale) -> Experiment:
    groups = {"cifar10": CIFAR10, "cifar100": "cifar100", "in16": "imagenet16-120"}
    taken = [shares(a, b) for a, b in scale.shares]

    def with_shares(change: Callable[[Trial], Trial]) -> Trials:
        return {
            data: tuple(change(search(data, **share)) for share in taken)
            for data in groups.values()
        }

    def criterion(name: str) -> Callable[[Trial], Trial]:
        return lambda trial: replace(trial, search={**trial.search, "criterion": name})

    pairs = [(a, b) for a in ("Low", "High") for b in ("Low", "High")]
    rows = paper_rows(
        paper.TABLE3, {(a, b): with_shares(criterion(f"{a}-{b}".lower())) for a, b in pairs}, 2
    )
    controls = (
        Row(("random", "random"), (), with_shares(at_random)),
        Row(("unpruned", ""), (), {data: (unpruned(search(data)),) for data in groups.values()}),
        Row(("unpruned, same cost", ""), (), with_shares(lambda trial: shortened(trial, scale))),
    )
    headers = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "in16": "Img.16-120"}
    columns = tuple(
        Column(f"{headers[prefix]} {header}", f"{prefix}_test", group, show)
        for prefix, group in groups.items()
        for header, show in (("Avg.", "mean"), ("Best", "best"))
    )
    table = Table(
        "Table 3. Which VoE is pruned from the two levels, DARTS with BDP on NAS-Bench-201",
        ("T", "V"),
        columns + own_columns(CIFAR10),
        rows + controls,
        tuple((pair, row.label) for pair in pairs for row in controls),
        COMPARED,
    )
    return Experiment(
        "table3",
        (table,),
        notes=(
            "Average and best are over the pruned shares "
            f"({', '.join(f'{a}/{b}' for a, b in scale.shares)} of the training/validation level "
            "a pruning) and the seeds.",
        ),
    )


def table4(scale: Scale) -> Experiment:
    def pruned(method: str, data: str, share: float) -> Trial:
        own = {"method": method} if method != "darts" else {}
        return search(data, **own, **shares(share, share))

    names = {"darts": "DARTS", "beta-darts": "β-DARTS"}
    trials: dict[str | Label, Trials] = {
        "DARTS(1st) [26]": all_columns(unpruned(search())),
        "DARTS(2nd) [26]": all_columns(unpruned(search(method="darts-2nd"))),
        "β-DARTS† [48]": all_columns(unpruned(search(method="beta-darts"))),
    }
    for method, name in names.items():
        trials[f"{name} w/ BDP†"] = all_columns(pruned(method, CIFAR10, 0.3))
        trials[f"{name} w/ BDP‡"] = all_columns(pruned(method, "cifar100", 0.2))
        trials[f"{name} w/ BDP"] = all_columns(pruned(method, CIFAR10, 0.4))
    for label in scale.left_out:
        trials.pop(label, None)
    controls: list[Row] = []
    pairs: list[tuple[Label, Label]] = []
    for (method, name), baseline in zip(
        names.items(), ("DARTS(1st) [26]", "β-DARTS† [48]"), strict=True
    ):
        trial = pruned(method, CIFAR10, 0.3)
        own = (
            Row((f"{name}, random instead of BDP†",), (), all_columns(at_random(trial))),
            Row((f"{name}, as cheap as BDP†",), (), all_columns(shortened(trial, scale))),
        )
        controls += own
        marks = ("†", "‡", "")
        pairs += [((f"{name} w/ BDP{mark}",), (baseline,)) for mark in marks]
        pairs += [((f"{name} w/ BDP†",), row.label) for row in own]
    table = Table(
        "Table 4. NAS-Bench-201",
        ("Methods",),
        (
            Column("Cost (hours)", "hours"),
            Column("Data (%)", "left"),
            *accuracies({"cifar10": "", "cifar100": "", "in16": ""}),
            *own_columns(),
        ),
        paper_rows(paper.TABLE4, trials, 1) + tuple(controls),
        tuple(pairs),
        COMPARED,
    )
    return Experiment(
        "table4",
        (table,),
        notes=(
            "†: searched on CIFAR-10, each pruning takes .3; ‡: on CIFAR-100, .2; the last block "
            "on CIFAR-10, .4. With nine prunings 4, 13 and 1 % of the images are left.",
            "The paper's hours are of a V100.",
        ),
    )


def table7(scale: Scale) -> Experiment:
    # The paper's lines are those of Table 4: searched on CIFAR-10 with .3 a pruning for the columns
    # of CIFAR-10, on CIFAR-100 with .2 for those of CIFAR-100.
    def pruned(method: str, balance: str) -> Trials:
        own = {
            **({"method": method} if method != "darts" else {}),
            **({"balance": balance} if balance != "paper" else {}),
        }
        return {
            CIFAR10: (search(**own),),
            "cifar100": (search("cifar100", **own, **shares(0.2, 0.2)),),
        }

    trials: dict[str | Label, Trials] = {
        (f"{name} w/ BDP", answer): pruned(method, balance)
        for method, name in (("darts", "DARTS"), ("beta-darts", "β-DARTS"))
        for answer, balance in (("yes", "paper"), ("no", "none"))
    }
    formulas = {
        "linear": "N_i = c_i (b + (1 - b) / m)",
        "harmonic": "N_i = c_i / (b + (1 - b) m)",
        "constant": "N_i = c_i / m",
    }
    others = tuple(
        Row(("DARTS w/ BDP", formula), (), {CIFAR10: pruned("darts", name)[CIFAR10]})
        for name, formula in formulas.items()
    )
    trial = search()
    controls = (
        Row(("DARTS, unpruned", ""), (), {CIFAR10: (unpruned(trial),)}),
        Row(("DARTS, random instead of BDP", "yes"), (), {CIFAR10: (at_random(trial),)}),
        Row(("DARTS, as cheap as BDP", ""), (), {CIFAR10: (shortened(trial, scale),)}),
    )
    ours = ("DARTS w/ BDP", "yes")
    table = Table(
        "Table 7. The class balance constraint",
        ("Methods", "balance"),
        (
            *accuracies({"cifar10": CIFAR10, "cifar100": "cifar100"}),
            *own_columns(CIFAR10),
            Column("b in the end, training", "balance_train", CIFAR10, paper=False),
            Column("b in the end, validation", "balance_valid", CIFAR10, paper=False),
            Column("Data (%)", "left", CIFAR10, paper=False),
        ),
        paper_rows(paper.TABLE7, trials, 2) + others + controls,
        (
            *((ours, row.label) for row in (Row(("DARTS w/ BDP", "no")), *others, *controls)),
            (("β-DARTS w/ BDP", "yes"), ("β-DARTS w/ BDP", "no")),
        ),
        COMPARED,
    )
    return Experiment(
        "table7",
        (table,),
        notes=(
            '"yes" is Eq. 6, N_i = c_i / m^(1 - b). The other expressions are ours: the paper '
            "compares its own in a supplement that we do not have.",
        ),
    )


def _searches(scale: Scale, eigenvalues: bool) -> tuple[Row, ...]:
    """DARTS with and without BDP, and the controls."""
    own: Options = {"eigenvalue_every": scale.eigenvalue_every} if eigenvalues else {}
    return (
        Row(("DARTS",), (), all_columns(unpruned(search(**own)))),
        Row(("DARTS w/ BDP",), (), all_columns(search(**own))),
        Row(("random instead of BDP",), (), all_columns(at_random(search()))),
        Row(("as cheap as BDP",), (), all_columns(shortened(search(), scale))),
    )


def _figure(scale: Scale, title: str, eigenvalues: bool, *columns: Column) -> Table:
    rows = _searches(scale, eigenvalues)
    baseline, bdp, *controls = (row.label for row in rows)
    return Table(
        title,
        ("Methods",),
        (*accuracies({"cifar10": ""}), *own_columns(), *columns),
        rows,
        tuple((bdp, other) for other in (baseline, *controls)),
        COMPARED,
    )


def fig3(scale: Scale) -> Experiment:
    table = _figure(
        scale,
        "Figure 3. Accuracy, set sizes and dominant eigenvalue while DARTS searches with BDP",
        True,
        Column("largest eigenvalue", "eigenvalue_largest", paper=False),
        Column("last eigenvalue", "eigenvalue_last", paper=False),
        Column("best CIFAR-10 test on the way", "best_on_the_way", paper=False),
    )
    return Experiment(
        "fig3",
        (table,),
        picture="curves",
        notes=(
            "The paper shows curves without figures: (a, b) the cell with BDP is good early and "
            "does not fall far; (c) BDP avoids the continuous rise of the eigenvalue of DARTS.",
            "The CPU seconds of the first two lines include the eigenvalues.",
        ),
    )


def fig4(scale: Scale) -> Experiment:
    table = _figure(scale, "Figure 4. Alpha at the end of the search", False)
    return Experiment(
        "fig4",
        (table,),
        picture="alphas",
        notes=(
            "The paper shows heat maps without figures: parameter-free operations dominate in "
            "DARTS, and do not with BDP.",
        ),
    )
