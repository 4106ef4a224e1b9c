"""Methods, spaces and pruners by name: ours, or `package.module:Name` of somebody else's."""

import importlib
import os
import sys
from collections.abc import Collection, Mapping, Sequence
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
        found: Named = getattr(importlib.import_module(module_name), attribute)
        if instance and isinstance(found, type):
            found = found()
    except Exception as error:  # whatever a foreign module raises
        raise UserError(
            f"--{option} {name} cannot be used ({type(error).__name__}: {error}); it names a "
            f"class{' without arguments, or an object,' if instance else ''} of a module that can "
            "be imported from here."
        ) from error
    if not (instance or isinstance(found, type)):
        raise UserError(
            f"--{option} {name} is an object; name its class, of which each search makes its own."
        )
    return required(option, name, found, needs)


def required(option: str, name: str, found: Named, needs: Sequence[str]) -> Named:
    """What was found, if it has all of these attributes.

    Raises:
        UserError: it lacks some.
    """
    missing = [need for need in needs if not hasattr(found, need)]
    if missing:
        raise UserError(f"--{option} {name} is no {option}: it has no {', no '.join(missing)}.")
    return found


def refuse_foreign(settings: Mapping[str, object], named: Collection[object], file: object) -> None:
    """Refuse code of a user's own that a file asks for and the command line does not: a folder may
    come from anywhere, and to import a module is to run it.

    Args:
        settings: what the file says, by the names of settings.
        named: what the command line says.

    Raises:
        UserError: there is such code; says how to ask for it.
    """
    foreign = [
        f"--{option} {settings[option]}"
        for option in ("space", "method", "pruner")
        if ":" in str(settings.get(option)) and settings[option] not in named
    ]
    if foreign:
        raise UserError(
            f"{file} names code of your own, which runs only where the command line names it too: "
            f"give {' '.join(foreign)}."
        )
