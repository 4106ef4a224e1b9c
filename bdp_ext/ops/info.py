"""What this installation is: `bdp_ext.build_info()`, printed by `bdp info`."""

import importlib.metadata
import platform
from typing import Any

import torch

from bdp_ext.ops import libraries, register


def build_info() -> dict[str, Any]:
    """Versions; which libraries were built and loaded, or why not; who computes what.

    Returns:
        Plain values that JSON can hold: `versions` {bdp_ext, python, torch, cuda, triton};
        `libraries` {cpu, cuda}, each {built, loaded, reason, details}; `operations`
        {op: {device: "compiled", "triton" or "reference"}}.
    """
    from bdp_ext import __version__

    devices = ["cpu", "cuda"] if torch.version.cuda else ["cpu"]
    return {
        "versions": {
            "bdp_ext": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "cuda": torch.version.cuda,
            "triton": _version("triton"),
        },
        "libraries": {name: _library(name) for name in ("cpu", "cuda")},
        "operations": {
            op: {device: register.owner(op, device) for device in devices}
            for op in register.SCHEMAS
        },
    }


def _library(name: str) -> dict[str, Any]:
    details = dict(libraries.details(name))
    return {
        "built": details.pop("built"),
        "loaded": libraries.loaded(name),
        "reason": libraries.reason(name),
        "details": details,
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
