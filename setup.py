"""Hands `build_ext` over to CMake (tools/build_libraries.py); pyproject.toml has the rest."""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))

import build_libraries  # noqa: E402


class BuildLibraries(build_ext):
    """Builds the libraries into bdp_ext/ (in place: `pip install -e .`) or the wheel's tree."""

    def run(self) -> None:
        parent = ROOT if self.inplace else Path(self.build_lib)
        self.built = build_libraries.build(ROOT, parent / "bdp_ext")

    def get_outputs(self) -> list[str]:
        return [str(path) for path in self.built]

    def get_output_mapping(self) -> dict[str, str]:
        return {}


if __name__ == "__main__":
    setup(
        # Without sources: it only tells setuptools that the wheel belongs to a platform.
        ext_modules=[Extension("bdp_ext._C", sources=[])],
        cmdclass={"build_ext": BuildLibraries},
    )
