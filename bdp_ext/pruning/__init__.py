"""Bi-level data pruning for any training loop that can say which samples it saw. Knows no DARTS."""

from bdp_ext.pruning.balance import CAPS, balance_degree, no_caps, paper_caps
from bdp_ext.pruning.criteria import CRITERIA, LEVELS, PRUNE
from bdp_ext.pruning.history import PruningHistory
from bdp_ext.pruning.pruner import Outputs, Passes, Pruner, Pruning, required
from bdp_ext.pruning.sampler import LiveSampler, batches_in_pass, samples_drawn
from bdp_ext.pruning.schedule import Schedule
from bdp_ext.pruning.voe_pruner import VoePruner
from bdp_ext.pruning.window import ErrorWindow

__all__ = [
    "CAPS",
    "CRITERIA",
    "LEVELS",
    "PRUNE",
    "ErrorWindow",
    "LiveSampler",
    "Outputs",
    "Passes",
    "Pruner",
    "Pruning",
    "PruningHistory",
    "Schedule",
    "VoePruner",
    "balance_degree",
    "batches_in_pass",
    "no_caps",
    "paper_caps",
    "required",
    "samples_drawn",
]
