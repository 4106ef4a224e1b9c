"""The search: its settings, its bi-level loop, and the folder that it fills."""

from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search

__all__ = ["Search", "SearchConfig"]
