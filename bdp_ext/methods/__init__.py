"""Search methods: which loss each level's step goes down."""

from bdp_ext.methods.darts import Darts
from bdp_ext.methods.method import Batch, Loss, Method

METHODS: dict[str, Method] = {method.name: method for method in (Darts(),)}

__all__ = ["METHODS", "Batch", "Darts", "Loss", "Method"]
