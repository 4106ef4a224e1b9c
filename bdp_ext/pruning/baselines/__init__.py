"""Pruners by name: BDP's, and those of other papers to compare it with, on one interface."""

from bdp_ext.pruning import Pruner, VoePruner
from bdp_ext.pruning.baselines.dynamic_uncertainty import DynamicUncertainty
from bdp_ext.pruning.baselines.el2n import El2n
from bdp_ext.pruning.baselines.entropy import Entropy
from bdp_ext.pruning.baselines.forgetting import Forgetting
from bdp_ext.pruning.baselines.glister import Glister
from bdp_ext.pruning.baselines.grand import GraNd
from bdp_ext.pruning.baselines.infobatch import InfoBatch
from bdp_ext.pruning.baselines.k_center import KCenter
from bdp_ext.pruning.baselines.random import Random
from bdp_ext.runs.plugins import find

PRUNERS: dict[str, type[Pruner] | None] = {
    "bdp": VoePruner,
    "none": None,
    **{
        pruner.name: pruner
        for pruner in (
            Random,
            El2n,
            GraNd,
            Forgetting,
            DynamicUncertainty,
            Entropy,
            KCenter,
            Glister,
            InfoBatch,
        )
    },
}


def find_pruner(name: str) -> type[Pruner] | None:
    """A pruner's class by its name, or `package.module:Name`, a subclass of `Pruner`; None for
    "none".

    Raises:
        UserError: there is none of this name.
    """
    needs = tuple(part for part in vars(Pruner) if not part.startswith("_"))
    return find("pruner", name, PRUNERS, needs, instance=False)


__all__ = [
    "PRUNERS",
    "DynamicUncertainty",
    "El2n",
    "Entropy",
    "Forgetting",
    "Glister",
    "GraNd",
    "InfoBatch",
    "KCenter",
    "Random",
    "find_pruner",
]
