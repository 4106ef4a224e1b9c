"""A found network trained from scratch, and its weights in a file."""

from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.loop import Retrain
from bdp_ext.retrain.weights import load_network, read_metadata

__all__ = ["Retrain", "RetrainConfig", "load_network", "read_metadata"]
