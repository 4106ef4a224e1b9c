"""An architecture as a user names it: a file of a run, a published name, or the string itself."""

import json
import os
from pathlib import Path

from bdp_ext.errors import UserError
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.published import PUBLISHED


def read_architecture(given: str, space: str | None = None) -> tuple[str, str]:
    """What `--genotype` stands for.

    Args:
        given: a name of `PUBLISHED`, a run's folder, its `result.json`, a file with an
            architecture's string, or that string.
        space: a name of `SPACES`; None: the one whose architecture it is.

    Returns:
        The space's name and the architecture in its string form.

    Raises:
        UserError: no such file, no architecture in it, or one of another space.
    """
    if given in PUBLISHED:
        text = str(PUBLISHED[given])
    elif os.path.exists(given):  # unlike Path's, it never raises
        text = _of_file(Path(given))
    else:
        text = given
    text = " ".join(text.split())  # one line, whatever the file's layout
    if space is not None:
        try:
            SPACES[space].graph(text)
        except ValueError as error:
            raise UserError(f"--genotype, --space {space}: {error}") from error
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


def _of_file(path: Path) -> str:
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
        result = json.loads(text)
        # A search's result calls it by the one name, a retraining's by the other.
        return str(result["architecture"] if "architecture" in result else result["genotype"])
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"--genotype {file} is no result of a search.") from error
