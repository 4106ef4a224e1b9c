"""`bdp_ext.prune`: bi-level data pruning in a training loop that exists, with two changed lines.

Knows loaders, criteria and models, but no DARTS. The parts: `_batches` and `_loader` draw live
samples only and remember them; `_hooks` and `_drawn` tell which logits belong to which batch, and
which of them a backward pass reached; `_clock` sees the ends of epochs; `_pruner` is the handle.
"""

from bdp_ext.dropin._pruner import DropInPruner
from bdp_ext.dropin.api import observe, prune

__all__ = ["DropInPruner", "observe", "prune"]
