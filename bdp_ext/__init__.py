"""BDP: differentiable architecture search on a shrinking set of samples (arXiv 2312.14200)."""

from bdp_ext import _register  # noqa: F401  registers the operations
from bdp_ext import ops
from bdp_ext._backend import backend

__all__ = ["backend", "ops"]
__version__ = "0.1.0"
