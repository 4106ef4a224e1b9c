"""Pruners by name: BDP's, and those of other papers to compare it with, on one interface."""

from bdp_ext.pruners.dynamic_uncertainty import DynamicUncertainty
from bdp_ext.pruners.el2n import El2n
from bdp_ext.pruners.entropy import Entropy
from bdp_ext.pruners.forgetting import Forgetting
from bdp_ext.pruners.glister import Glister
from bdp_ext.pruners.grand import GraNd
from bdp_ext.pruners.infobatch import InfoBatch
from bdp_ext.pruners.k_center import KCenter
from bdp_ext.pruners.random import Random
from bdp_ext.pruning import LevelPruner, Pruner
from bdp_ext.runs.plugins import find

PRUNERS: dict[str, type[Pruner] | None] = {
    "bdp": LevelPruner,
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
