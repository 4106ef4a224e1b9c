"""The build backend: setuptools', which asks for torch only where there is none.

The C++ needs torch's headers. Were torch among the build requirements, pip would unpack gigabytes
for every isolated build, although the environment that the package goes to has a torch, and perhaps
another one.
"""

from typing import Any

import setuptools
from build_libraries import find_torch
from setuptools import build_meta
from setuptools.build_meta import (  # noqa: F401  the hooks that pip calls
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

if int(setuptools.__version__.split(".")[0]) < 77:
    raise SystemExit(
        f"bdp_ext is built with setuptools>=77, and this is {setuptools.__version__}: "
        f"`pip install -U setuptools`, or leave out --no-build-isolation."
    )


def get_requires_for_build_wheel(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_wheel(config_settings) + _torch()


def get_requires_for_build_editable(config_settings: Any = None) -> list[str]:
    return build_meta.get_requires_for_build_editable(config_settings) + _torch()


def _torch() -> list[str]:
    return [] if find_torch() else ["torch>=2.10"]
