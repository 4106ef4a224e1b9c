"""`bdp_ext.prune`: bi-level data pruning in a training loop that exists, with two changed lines.

Knows loaders, criteria and models, but no DARTS. `loaders` draw live samples only, and
`label_finder` remembers them; `hooks` and `recent_batches` tell which logits belong to which batch,
and which of them a backward pass reached; `epoch_clock` sees the ends of epochs; `pruner` is the
handle that ties them together; `api` is what the user calls.
"""

from bdp_ext.dropin.api import observe, prune
from bdp_ext.dropin.pruner import DropInPruner

__all__ = ["DropInPruner", "observe", "prune"]
