"""An architecture as a user names it: a file of a run, a published name, or the string itself."""

import json
import os
from pathlib import Path

from bdp_ext.errors import UserError
from bdp_ext.runs.plugins import refuse_foreign, required
from bdp_ext.spaces import SPACES, find_space
from bdp_ext.spaces.published import PUBLISHED
from bdp_ext.spaces.space import Edge


def read_architecture(given: str, space: str | None = None) -> tuple[str, str]:
    """What `--genotype` stands for.

    Args:
        given: a name of `PUBLISHED`, a run's folder, its `result.json`, a file with an
            architecture's string, or that string.
        space: a space's name, as `find_space` takes it; None: the one of `SPACES` whose
            architecture it is.

    Returns:
        The space's name and the architecture in its string form.

    Raises:
        UserError: no such file, no architecture in it, or one of another space.
    """
    if given in PUBLISHED:
        text = str(PUBLISHED[given])
    elif os.path.exists(given):  # unlike Path's, it never raises
        text = _of_file(Path(given), space)
    else:
        text = given
    text = " ".join(text.split())  # one line, whatever the file's layout
    if space is not None:
        edges(text, space)
        return space, text
    for name, candidate in SPACES.items():
        try:
            candidate.graph(text)
        except ValueError:
            continue
        return name, text
    raise UserError(
        f"--genotype {text[:60]!r} is no file, no published name ({', '.join(PUBLISHED)}) and no "
        f"architecture of a space; give --space, one of {', '.join(SPACES)}, to learn why."
    )


def edges(architecture: str, space: str) -> dict[str, list[Edge]]:
    """The architecture as arrows between named nodes, cell by cell (see `Space.graph`).

    Args:
        space: a space's name, as `find_space` takes it.

    Raises:
        UserError: no such space, or none of its architectures.
    """
    found = required("space", space, find_space(space), ["graph"])
    try:
        return found.graph(architecture)
    except ValueError as error:
        raise UserError(f"--space {space}: {error}") from error


def _of_file(path: Path, space: str | None) -> str:
    file = path / "result.json" if path.is_dir() else path
    try:
        text = file.read_text()
    except OSError as error:
        raise UserError(
            f"--genotype {file} cannot be read ({error.strerror}): give the --out of a finished "
            "search, a file with an architecture, or the architecture itself."
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"--genotype {file} is no text.") from error
    if file.suffix != ".json":
        return text
    try:
        result = dict(json.loads(text))
        refuse_foreign({"space": result.get("space")}, [space], file)
        # A search's result calls it by the one name, a retraining's by the other.
        return str(result["architecture"] if "architecture" in result else result["genotype"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"--genotype {file} is no result of a search.") from error
