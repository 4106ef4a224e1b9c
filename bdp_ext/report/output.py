"""Figures as files, and files that are written or refused in a sentence."""

import io
import warnings
from pathlib import Path

from matplotlib.figure import Figure

from bdp_ext.errors import UserError
from bdp_ext.runs.files import write_atomically

UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
"""The same figure gives the same file."""


def rendered(figure: Figure, kind: str) -> bytes:
    """A figure as the content of a file: "svg", "png" or "pdf"."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # A name in a script that matplotlib's own font lacks; a browser has others.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(file, format=kind, metadata=UNDATED.get(kind))
    return file.getvalue()


def write(path: Path, content: bytes, option: str = "--out") -> None:
    """Write a file whole or not at all.

    Raises:
        UserError: a place that cannot be written.
    """
    try:
        write_atomically(path, lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"{option} {path} cannot be written: {error.strerror}.") from error
