"""The paper's experiments whose cells are trained from scratch: Tables 5 and 6."""

from typing import Any

from bdp_ext.reproduce import paper
from bdp_ext.reproduce.model import Column, Experiment, Label, Pair, Row, Table, Trial, Trials
from bdp_ext.reproduce.rows import (
    CIFAR10,
    at_random,
    controls,
    less,
    line,
    paper_rows,
    shortened,
    unpruned,
)
from bdp_ext.reproduce.scale import Scale

BASELINES = {
    "darts": ("DARTS", "DARTS(1st) [26]"),
    "beta-darts": ("β-DARTS", "β-DARTS† [48]"),
    "p-darts": ("P-DARTS", "P-DARTS [6]"),
    "pc-darts": ("PC-DARTS", "PC-DARTS [44]"),
}
"""Method -> its name, and its line without BDP on CIFAR."""
TOP1 = ("top-1", "top1")


def trained(data: str, on: str, space: str, **own: Any) -> Trial:
    """A search on `data` whose architecture is trained on `on`."""
    protocol = {"protocol": "imagenet" if on == "imagenet" else "cifar"}
    return Trial({"data": data, "space": space, **own}, {"data": on, **protocol})


def _cost(group: str = "") -> tuple[Column, ...]:
    columns = (("samples searched", "samples"), ("CPU s searched", "cpu"))
    return tuple(Column(header, measure, group, paper=False) for header, measure in columns)


def table5(scale: Scale) -> Experiment:
    return Experiment(
        "table5",
        (_cifar(scale), _imagenet(scale)),
        notes=(
            "Each cell is searched with every seed and trained once; the paper trains the best.",
            "On CIFAR each cell is trained on the data set it was searched on, but those of † and "
            "‡ without BDP, which are searched on CIFAR-10 and on CIFAR-100. *: on ImageNet.",
            "The paper's line of 0.04 days names no settings; ours prunes .4 every 2 epochs, a "
            "tenth of the samples.",
        ),
    )


def _on(data: str, method: str, **own: Any) -> Trial:
    return trained(data, data, "darts", method=method, **own)


def _cifar(scale: Scale) -> Table:
    groups = ("cifar10", "cifar100")

    def both(method: str, **own: Any) -> Trials:
        return {data: (_on(data, method, **own),) for data in groups}

    def searched_on(data: str) -> Trials:
        return {on: (trained(data, on, "darts", method="beta-darts", bdp=False),) for on in groups}

    trials: dict[str | Label, Trial | Trials] = {
        "DARTS(1st) [26]": both("darts", bdp=False),
        "DARTS(2nd) [26]": {CIFAR10: (_on(CIFAR10, "darts-2nd", bdp=False),)},
        "P-DARTS [6]": both("p-darts", bdp=False),
        "PC-DARTS [44]": both("pc-darts", bdp=False),
        "β-DARTS† [48]": searched_on("cifar10"),
        "β-DARTS‡ [48]": searched_on("cifar100"),
        "DARTS w/ BDP (0.04 days)": {
            CIFAR10: (_on(CIFAR10, "darts", interval=2, prune_train=0.4, prune_valid=0.4),)
        },
    }
    ours: list[Row] = []
    pairs: list[Pair] = []
    for method, (name, baseline) in BASELINES.items():
        trials[f"{name} w/ BDP"] = both(method)
        trial = _on(CIFAR10, method)
        own = (
            line(f"{name}, random instead of BDP", {CIFAR10: (at_random(trial),)}),
            line(f"{name}, as cheap as BDP", {CIFAR10: (shortened(trial, scale),)}),
        )
        ours += own
        pairs += less(f"{name} w/ BDP", [baseline, *own])
    for label in scale.left_out:
        trials.pop(label, None)
    return Table(
        "Table 5, left. The DARTS space on CIFAR",
        ("Method",),
        (
            Column("GPU (Days)", "days", CIFAR10),
            Column("CIFAR-10 Params (M)", "parameters", CIFAR10),
            Column("CIFAR-10 Acc (%)", "top1", CIFAR10, "best"),
            Column("CIFAR-100 Params (M)", "parameters", "cifar100"),
            Column("CIFAR-100 Acc (%)", "top1", "cifar100", "best"),
            *_cost(CIFAR10),
        ),
        (*paper_rows(paper.TABLE5, trials, part=slice(0, 6)), *ours),
        tuple(pairs),
        (TOP1,),
    )


def _imagenet(scale: Scale) -> Table:
    marks = {"†": "cifar10", "‡": "cifar100", "*": "imagenet"}

    def cell(method: str, mark: str, **own: Any) -> Trial:
        return trained(marks[mark], "imagenet", "darts", method=method, **own)

    trials: dict[str | Label, Trial | Trials] = {
        "PC-DARTS* [44]": cell("pc-darts", "*", bdp=False),
        "P-DARTS‡ [6]": cell("p-darts", "‡", bdp=False),
        "β-DARTS‡ [48]": cell("beta-darts", "‡", bdp=False),
        "β-DARTS† [48]": cell("beta-darts", "†", bdp=False),
        "DARTS w/ BDP†": cell("darts", "†"),
        "β-DARTS w/ BDP‡": cell("beta-darts", "‡"),
        "β-DARTS w/ BDP†": cell("beta-darts", "†"),
        "P-DARTS w/ BDP‡": cell("p-darts", "‡"),
        "PC-DARTS w/ BDP‡": cell("pc-darts", "‡"),
        "PC-DARTS w/ BDP*": cell("pc-darts", "*"),
    }
    unpruned_darts = line("DARTS†", cell("darts", "†", bdp=False))
    own = controls(scale, cell("pc-darts", "*"), "PC-DARTS*, ")
    return Table(
        "Table 5, right. The DARTS space on ImageNet",
        ("Method",),
        (
            Column("GPU (Days)", "days"),
            Column("Params (M)", "parameters"),
            Column("Top1 (%)", "top1", show="best"),
            Column("Top5 (%)", "top5", show="best"),
            *_cost(),
        ),
        (*paper_rows(paper.TABLE5, trials, part=slice(6, 11)), unpruned_darts, *own),
        (
            *less("DARTS w/ BDP†", [unpruned_darts]),
            *less("PC-DARTS w/ BDP*", ["PC-DARTS* [44]", *own]),
        ),
        (TOP1,),
    )


def table6(scale: Scale) -> Experiment:
    def layers(method: str, **own: Any) -> Trial:
        return trained("imagenet", "imagenet", "mobilenet", method=method, **own)

    trial = layers("darts")
    trials: dict[str | Label, Trial | Trials] = {
        "β-DARTS [49]": layers("beta-darts", bdp=False),
        "DARTS w/ BDP": trial,
        "β-DARTS w/BDP": layers("beta-darts"),
    }
    ours = (line("DARTS", unpruned(trial)), *controls(scale, trial, "DARTS, "))
    table = Table(
        "Table 6. The MobileNet-like space on ImageNet",
        ("Method",),
        (
            Column("GPU (Days)", "days"),
            Column("FLOPs (M)", "flops"),
            Column("Params (M)", "parameters"),
            Column("Top1 (%)", "top1"),
            Column("Top5 (%)", "top5"),
            Column("Proxy data", ""),
            *_cost(),
        ),
        paper_rows(paper.TABLE6, trials) + ours,
        (
            *less("DARTS w/ BDP", ours),
            *less("β-DARTS w/BDP", ["β-DARTS [49]"]),
        ),
        (TOP1,),
    )
    return Experiment(
        "table6",
        (table,),
        notes=(
            "The paper's days are of eight V100s; ours of one device.",
            "The paper leaves out DARTS itself, which chose skip connections only.",
        ),
    )
