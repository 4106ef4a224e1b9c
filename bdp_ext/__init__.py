"""BDP: differentiable architecture search on a shrinking set of samples (arXiv 2312.14200)."""

from bdp_ext import (
    _register,  # noqa: F401  registers the operations
    ops,
)
from bdp_ext._backend import backend
from bdp_ext._info import build_info
from bdp_ext.dropin import observe, prune

__all__ = ["backend", "build_info", "observe", "ops", "prune"]
__version__ = "0.1.0"
