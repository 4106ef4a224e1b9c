"""Search methods: how alpha becomes weights of the candidates, and how both are updated."""

from bdp_ext.methods.beta_darts import BetaDarts
from bdp_ext.methods.darts import Darts, ExactSecondOrderDarts, SecondOrderDarts
from bdp_ext.methods.method import Batch, Epoch, Gradients, Loss, Method, Past, Step, frozen
from bdp_ext.methods.p_darts import PDarts
from bdp_ext.methods.pc_darts import PcDarts
from bdp_ext.runs.plugins import find

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        Darts,
        SecondOrderDarts,
        ExactSecondOrderDarts,
        PDarts,
        PcDarts,
        BetaDarts,
    )
}


def find_method(name: str) -> type[Method]:
    """A method by its name, or `package.module:Name`, a subclass of `Method`.

    Raises:
        UserError: there is none.
    """
    needs = tuple(step for step in vars(Method) if not step.startswith("_"))
    return find("method", name, METHODS, needs, instance=False)


__all__ = [
    "METHODS",
    "Batch",
    "BetaDarts",
    "Darts",
    "Epoch",
    "ExactSecondOrderDarts",
    "Gradients",
    "Loss",
    "Method",
    "PDarts",
    "Past",
    "PcDarts",
    "SecondOrderDarts",
    "Step",
    "find_method",
    "frozen",
]
