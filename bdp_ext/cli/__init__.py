"""The command line, `bdp`."""

from bdp_ext.cli.commands import bdp, main

__all__ = ["bdp", "main"]
