"""The paper's experiments on NAS-Bench-201: Tables 1 to 4 and 7, Figures 3 and 4."""

from collections.abc import Callable
from dataclasses import replace

from bdp_ext.reproduce import paper
from bdp_ext.reproduce.estimate import images_used
from bdp_ext.reproduce.model import Column, Experiment, Label, Pair, Row, Table, Trial, Trials
from bdp_ext.reproduce.rows import (
    CIFAR10,
    COMPARED,
    accuracies,
    at_random,
    controls,
    less,
    line,
    own_columns,
    paper_rows,
    search,
    shares,
    shortened,
    unpruned,
)
from bdp_ext.reproduce.scale import Options, Scale

NAMES = {"darts": "DARTS", "beta-darts": "β-DARTS"}
CRITERIA = [(a, b) for a in ("Low", "High") for b in ("Low", "High")]
"""What is pruned of the training and of the validation level, as Tables 2 and 3 have it."""


def table1(scale: Scale) -> Experiment:
    splits = {f"{10 * s:.0f} : {10 * (1 - s):.0f}": s for s in (0.1, 0.3, 0.5, 0.7, 0.9)}
    rows = paper_rows(paper.TABLE1, {k: unpruned(search(train_share=s)) for k, s in splits.items()})
    del splits["5 : 5"]
    as_many = [
        line(f"5 : 5, as many steps as {label}", shortened(search(), scale, 2 * share))
        for label, share in splits.items()
    ]
    pairs: list[Pair] = [((label,), ("5 : 5",)) for label in splits]
    pairs += [((label,), row.label) for label, row in zip(splits, as_many, strict=True)]
    table = Table(
        "Table 1. Splits of training and validation set, DARTS on NAS-Bench-201",
        ("T : V",),
        accuracies({"cifar10": "", "cifar100": ""}) + own_columns(),
        (*rows, *as_many),
        tuple(pairs),
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
    baseline = unpruned(search())
    trials: dict[str | Label, Trial | Trials] = {
        pair: search(criterion="-".join(pair).lower(), **half) for pair in CRITERIA
    }
    trials["DARTS [26]"] = baseline
    fewer = images_used(scale.search_config(baseline.search), scale.sizes[CIFAR10]) // 2
    ours = (
        line(("random half", ""), unpruned(search(limit_train=fewer))),
        line(("as cheap as EL2N", ""), shortened(search(criterion="low-high", **half), scale)),
    )
    table = Table(
        "Table 2. One-shot EL2N pruning of 50 % of both levels, DARTS on NAS-Bench-201",
        ("T", "V"),
        accuracies({"cifar10": "", "cifar100": ""}) + own_columns(),
        paper_rows(paper.TABLE2, trials, 2) + ours,
        tuple(both for pair in CRITERIA for both in less(pair, [("DARTS [26]", ""), *ours])),
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

    rows = paper_rows(
        paper.TABLE3, {pair: with_shares(criterion("-".join(pair).lower())) for pair in CRITERIA}, 2
    )
    ours = (
        line(("random", "random"), with_shares(at_random)),
        line(("unpruned", ""), {data: (unpruned(search(data)),) for data in groups.values()}),
        line(("unpruned, same cost", ""), with_shares(lambda trial: shortened(trial, scale))),
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
        rows + ours,
        tuple(both for pair in CRITERIA for both in less(pair, ours)),
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

    trials: dict[str | Label, Trial | Trials] = {
        "DARTS(1st) [26]": unpruned(search()),
        "DARTS(2nd) [26]": unpruned(search(method="darts-2nd")),
        "β-DARTS† [48]": unpruned(search(method="beta-darts")),
    }
    ours: list[Row] = []
    pairs: list[Pair] = []
    baselines = ("DARTS(1st) [26]", "β-DARTS† [48]")
    for (method, name), baseline in zip(NAMES.items(), baselines, strict=True):
        trial = pruned(method, CIFAR10, 0.3)
        trials[f"{name} w/ BDP†"] = trial
        trials[f"{name} w/ BDP‡"] = pruned(method, "cifar100", 0.2)
        trials[f"{name} w/ BDP"] = pruned(method, CIFAR10, 0.4)
        own = controls(scale, trial, f"{name}, ", "BDP†")
        ours += own
        pairs += [((f"{name} w/ BDP{mark}",), (baseline,)) for mark in ("†", "‡", "")]
        pairs += less(f"{name} w/ BDP†", own)
    for label in scale.left_out:
        trials.pop(label, None)
    table = Table(
        "Table 4. NAS-Bench-201",
        ("Methods",),
        (
            Column("Cost (hours)", "hours"),
            Column("Data (%)", "left"),
            *accuracies({"cifar10": "", "cifar100": "", "in16": ""}),
            *own_columns(),
        ),
        (*paper_rows(paper.TABLE4, trials), *ours),
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
    def pruned(**own: str) -> Trials:
        return {
            CIFAR10: (search(**own),),
            "cifar100": (search("cifar100", **own, **shares(0.2, 0.2)),),
        }

    def on_cifar10(label: str, trial: Trial, answer: str = "") -> Row:
        return line((label, answer), {CIFAR10: (trial,)})

    trials: dict[str | Label, Trial | Trials] = {
        ("DARTS w/ BDP", "yes"): pruned(),
        ("DARTS w/ BDP", "no"): pruned(balance="none"),
        ("β-DARTS w/ BDP", "yes"): pruned(method="beta-darts"),
        ("β-DARTS w/ BDP", "no"): pruned(method="beta-darts", balance="none"),
    }
    formulas = {
        "linear": "N_i = c_i (b + (1 - b) / m)",
        "harmonic": "N_i = c_i / (b + (1 - b) m)",
        "constant": "N_i = c_i / m",
    }
    trial = search()
    ours = (
        *(
            on_cifar10("DARTS w/ BDP", search(balance=name), formula)
            for name, formula in formulas.items()
        ),
        on_cifar10("DARTS, unpruned", unpruned(trial)),
        on_cifar10("DARTS, random instead of BDP", at_random(trial), "yes"),
        on_cifar10("DARTS, as cheap as BDP", shortened(trial, scale)),
    )
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
        paper_rows(paper.TABLE7, trials, 2) + ours,
        (
            *less(("DARTS w/ BDP", "yes"), [("DARTS w/ BDP", "no"), *ours]),
            *less(("β-DARTS w/ BDP", "yes"), [("β-DARTS w/ BDP", "no")]),
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


def _figure(scale: Scale, title: str, own: Options, *columns: Column) -> Table:
    """DARTS with and without BDP, these two with settings of their own, and the controls."""
    baseline = line("DARTS", unpruned(search(**own)))
    others = controls(scale, search())
    return Table(
        title,
        ("Methods",),
        (*accuracies({"cifar10": ""}), *own_columns(), *columns),
        (baseline, line("DARTS w/ BDP", search(**own)), *others),
        less("DARTS w/ BDP", [baseline, *others]),
        COMPARED,
    )


def fig3(scale: Scale) -> Experiment:
    table = _figure(
        scale,
        "Figure 3. Accuracy, set sizes and dominant eigenvalue while DARTS searches with BDP",
        {"eigenvalue_every": scale.eigenvalue_every},
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
    table = _figure(scale, "Figure 4. Alpha at the end of the search", {})
    return Experiment(
        "fig4",
        (table,),
        picture="alphas",
        notes=(
            "The paper shows heat maps without figures: parameter-free operations dominate in "
            "DARTS, and do not with BDP.",
        ),
    )
