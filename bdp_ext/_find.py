"""Methods, spaces and pruners by name: ours, or `package.module:Name` of somebody else's."""

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TypeVar

from bdp_ext.errors import UserError

Named = TypeVar("Named")


def find(
    option: str,
    name: str,
    known: Mapping[str, Named],
    needs: tuple[str, ...],
    instance: bool = True,
) -> Named:
    """What `--option name` means.

    Args:
        option: "method", "space" or "pruner".
        name: a key of `known`, or `package.module:Name`, a class or an object; the module may lie
            in the current folder.
        needs: attributes that it must have.
        instance: of a class make an object, without arguments.

    Raises:
        UserError: there is no such thing, or it is no method, space or pruner.
    """
    if name in known:
        return known[name]
    module_name, colon, attribute = name.partition(":")
    if not colon:
        raise UserError(
            f"--{option} must be one of {', '.join(known)}, or package.module:Name of your own; "
            f"got {name!r}."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module_name), attribute)
        if instance and isinstance(found, type):
            found = found()
    except Exception as error:  # whatever a foreign module raises
        raise UserError(
            f"--{option} {name} cannot be used ({type(error).__name__}: {error}); it names a "
            f"class{' without arguments, or an object,' if instance else ''} of a module that can "
            "be imported from here."
        ) from error
    missing = [need for need in needs if not hasattr(found, need)]
    if missing:
        raise UserError(f"--{option} {name} is no {option}: it has no {', no '.join(missing)}.")
    return found  # type: ignore[no-any-return]
