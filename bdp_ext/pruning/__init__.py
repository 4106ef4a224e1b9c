"""Bi-level data pruning for any training loop that can say which samples it saw. Knows no DARTS."""

from bdp_ext.pruning.balance import CAPS, balance_degree, no_caps, paper_caps
from bdp_ext.pruning.bdp import LevelPruner
from bdp_ext.pruning.bilevel import BilevelPruner
from bdp_ext.pruning.loaders import LiveSampler, batches_in_pass, samples_drawn
from bdp_ext.pruning.pruned import Pruned
from bdp_ext.pruning.pruner import Outputs, Passes, Pruner, Pruning, required
from bdp_ext.pruning.schedule import Schedule
from bdp_ext.pruning.window import ErrorWindow

__all__ = [
    "CAPS",
    "BilevelPruner",
    "ErrorWindow",
    "LevelPruner",
    "LiveSampler",
    "Outputs",
    "Passes",
    "Pruned",
    "Pruner",
    "Pruning",
    "Schedule",
    "balance_degree",
    "batches_in_pass",
    "no_caps",
    "paper_caps",
    "required",
    "samples_drawn",
]
