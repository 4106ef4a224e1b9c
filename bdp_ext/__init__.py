"""BDP: differentiable architecture search on a shrinking set of samples (arXiv 2312.14200)."""

from bdp_ext import ops
from bdp_ext.dropin import observe, prune
from bdp_ext.ops.backend import backend
from bdp_ext.ops.info import build_info

__all__ = ["backend", "build_info", "observe", "ops", "prune"]
__version__ = "0.1.0"
