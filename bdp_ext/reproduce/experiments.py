"""The experiments by their names: the paper's, and one of ours."""

from collections.abc import Callable

from bdp_ext.reproduce import nas_bench_201, retrained
from bdp_ext.reproduce.model import Experiment
from bdp_ext.reproduce.pruners import pruners
from bdp_ext.reproduce.scale import Scale

EXPERIMENTS: dict[str, Callable[[Scale], Experiment]] = {
    "table1": nas_bench_201.table1,
    "table2": nas_bench_201.table2,
    "table3": nas_bench_201.table3,
    "table4": nas_bench_201.table4,
    "table5": retrained.table5,
    "table6": retrained.table6,
    "table7": nas_bench_201.table7,
    "fig3": nas_bench_201.fig3,
    "fig4": nas_bench_201.fig4,
    "pruners": pruners,
}
