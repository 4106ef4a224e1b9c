"""Search methods: how alpha and the weights are updated."""

from bdp_ext.methods.beta_darts import BetaDarts
from bdp_ext.methods.darts import Darts, ExactSecondOrderDarts, SecondOrderDarts
from bdp_ext.methods.method import Batch, Loss, Method, Step
from bdp_ext.methods.pc_darts import PcDarts

METHODS: dict[str, Method] = {
    method.name: method
    for method in (Darts(), SecondOrderDarts(), ExactSecondOrderDarts(), PcDarts(), BetaDarts())
}

__all__ = [
    "METHODS",
    "Batch",
    "BetaDarts",
    "Darts",
    "ExactSecondOrderDarts",
    "Loss",
    "Method",
    "PcDarts",
    "SecondOrderDarts",
    "Step",
]
