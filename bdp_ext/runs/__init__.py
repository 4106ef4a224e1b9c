"""What every job with a folder needs: settings, checkpoints, files, and names of one's own code."""

from bdp_ext.runs.folder import Folder, Interrupted, Observer
from bdp_ext.runs.job import Job
from bdp_ext.runs.settings import Settings

__all__ = ["Folder", "Interrupted", "Job", "Observer", "Settings"]
