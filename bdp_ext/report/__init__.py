"""Runs as one self-contained HTML page with plots, and the plots as files for papers."""

from bdp_ext.report.page import write_report
from bdp_ext.report.runs import RecordedRun, read_run, read_runs

__all__ = ["RecordedRun", "read_run", "read_runs", "write_report"]
