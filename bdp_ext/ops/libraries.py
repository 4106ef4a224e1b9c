"""The compiled libraries: which were built, which are loaded, and why one is not.

`cpu` is bdp_ext._C, `cuda` is bdp_ext/_C_cuda.so. Both only implement operations that `register.py`
has defined; loading one hands its device over to it. The build leaves _build.json beside them
(tools/build_libraries.py).
"""

import importlib
import json
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).resolve().parents[1]  # of the package

_reasons: dict[str, str] = {}
_details: dict[str, dict[str, Any]] = {}


def loaded(name: str) -> bool:
    """Whether the compiled library "cpu" or "cuda" is loaded."""
    return not _reasons[name]


def reason(name: str) -> str:
    """Why the library "cpu" or "cuda" is not loaded, and what to do; "" where it is."""
    return _reasons[name]


def details(name: str) -> dict[str, Any]:
    """Whether "cpu" or "cuda" was built, and how: plain values."""
    return _details[name]


def _load() -> None:
    """Load what was built; whatever stands in the way becomes the reason."""
    for name in ("cpu", "cuda"):
        built = _built(name)
        _details[name] = {key: value for key, value in built.items() if key != "reason"}
        if name == "cuda" and torch.version.cuda is None:
            _reasons[name] = (
                f"torch {torch.__version__} is built without CUDA; install a CUDA build of torch "
                f"and run `pip install -e .` again."
            )
        elif not built.get("built"):
            _reasons[name] = built["reason"]
        else:
            _reasons[name] = _load_one(name)


def _load_one(name: str) -> str:
    try:
        if name == "cpu":
            module = importlib.import_module("bdp_ext._C")
            _details[name] |= module.build_info()
        else:
            torch.ops.load_library(str(FOLDER / "_C_cuda.so"))
    except Exception as error:
        return (
            f"the {name} library in {FOLDER} does not load with torch {torch.__version__} "
            f"({error}); run `pip install -e .` again."
        )
    return ""


def _built(name: str) -> dict[str, Any]:
    try:
        report = json.loads((FOLDER / "_build.json").read_text())
        outcome: dict[str, Any] = report["libraries"][name]
    except FileNotFoundError:
        return {"built": False, "reason": f"{FOLDER} was never built; run `pip install -e .`."}
    except (ValueError, KeyError) as error:
        return {
            "built": False,
            "reason": f"{FOLDER / '_build.json'} cannot be read ({error!r}); "
            f"run `pip install -e .` again.",
        }
    return outcome


_load()
