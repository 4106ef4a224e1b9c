"""Builds bdp_ext's two compiled libraries with CMake, and writes down what came of it.

`cpu` is the module bdp_ext/_C, `cuda` is bdp_ext/_C_cuda.so. BDP_EXT_CPU and BDP_EXT_CUDA say what
is wanted:
    auto  (default) build it where that can work; otherwise warn, and the package runs without it
    0     leave it out
    1     build it or fail
bdp_ext/_build.json keeps, for each library, whether it was built and why not;
`bdp_ext.build_info()` reads it.

Nothing here imports torch or looks for a GPU: a build machine need not have one.
"""

import contextlib
import importlib
import importlib.util
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AGAIN = "run `pip install -e .` again"
FILES = {"cpu": "_C" + (sysconfig.get_config_var("EXT_SUFFIX") or ".so"), "cuda": "_C_cuda.so"}


class BuildError(RuntimeError):
    """A library that was asked for with BDP_EXT_CPU=1 or BDP_EXT_CUDA=1 cannot be built."""


class Skip(Exception):
    """Why a library is not built, in a sentence that says what to do."""


@dataclass(frozen=True)
class Torch:
    """An installed torch: its folder, its version, and the CUDA version it was built with."""

    folder: Path
    version: str
    cuda: str | None


@dataclass(frozen=True)
class Nvcc:
    """A CUDA compiler: the toolkit it belongs to, and its version."""

    home: Path
    version: tuple[int, int]


def build(root: Path, target: Path) -> list[Path]:
    """Build what is wanted and can be built into the folder `target`; return the files written.

    Raises:
        BuildError: a library wanted with `=1` cannot be built.
    """
    target.mkdir(parents=True, exist_ok=True)
    torch = find_torch()
    report: dict[str, Any] = {
        "python": sys.version.split()[0],
        "torch": torch.version if torch else None,
        "libraries": {},
    }
    written = []
    for library, file in FILES.items():
        wanted = wish(library, os.environ)
        built = None
        try:
            options, details = plan(library, wanted, torch)
            built = _cmake(root, library, options)
            outcome = {"built": True, "reason": "", **details}
        except Skip as skip:
            if wanted == "1":
                raise BuildError(f"BDP_EXT_{library.upper()}=1, but {skip}") from None
            if wanted == "auto":
                print(f"warning: bdp_ext: no {library} library: {skip}", file=sys.stderr)
            outcome = {"built": False, "reason": str(skip)}
        report["libraries"][library] = outcome
        if built is None:
            (target / file).unlink(missing_ok=True)  # A stale one would contradict the report.
        else:
            _replace(target / file, built.read_bytes())
            written.append(target / file)
    _replace(target / "_build.json", json.dumps(report, indent=2).encode() + b"\n")
    return [*written, target / "_build.json"]


def wish(library: str, environ: Mapping[str, str]) -> str:
    """What BDP_EXT_CPU or BDP_EXT_CUDA asks for: "auto", "0" or "1"."""
    name = f"BDP_EXT_{library.upper()}"
    value = environ.get(name) or "auto"
    if value not in ("auto", "0", "1"):
        raise BuildError(f"{name} must be auto, 0 or 1, got {value!r}.")
    return value


def plan(library: str, wanted: str, torch: Torch | None) -> tuple[dict[str, str], dict[str, Any]]:
    """CMake's options for a library, and what the report says of it.

    Raises:
        Skip: the library is not wanted, or cannot be built here.
    """
    if wanted == "0":
        raise Skip(f"it was left out (BDP_EXT_{library.upper()}=0); unset that and {AGAIN}.")
    if torch is None:
        raise Skip(f"torch was not installed when bdp_ext was built; install it and {AGAIN}.")
    if not (os.environ.get("CXX") or any(map(shutil.which, ("c++", "g++", "clang++")))):
        raise Skip(f"there is no C++ compiler in the PATH; install one (Debian: g++) and {AGAIN}.")
    options = {"TORCH_DIR": str(torch.folder)}
    if library == "cpu":
        return options | _python_options(), {}

    nvcc = find_nvcc(os.environ) if torch.cuda else None
    check_cuda(torch, nvcc)
    assert nvcc is not None
    architectures = cuda_architectures(os.environ.get("TORCH_CUDA_ARCH_LIST"), nvcc)
    options["CMAKE_CUDA_COMPILER"] = str(nvcc.home / "bin/nvcc")
    options["CMAKE_CUDA_ARCHITECTURES"] = ";".join(architectures)
    return options, {
        "nvcc": ".".join(map(str, nvcc.version)),
        "architectures": architectures,
        "built_with_torch": torch.version,
    }


def check_cuda(torch: Torch, nvcc: Nvcc | None) -> None:
    """Decide by torch and nvcc, never by a visible GPU.

    Raises:
        Skip: the CUDA library cannot be built with these two.
    """
    if torch.cuda is None:
        raise Skip(
            f"torch {torch.version} is built without CUDA; install a CUDA build of torch "
            f"and {AGAIN}."
        )
    if nvcc is None:
        raise Skip(
            f"there is no nvcc, neither under CUDA_HOME nor in the PATH; install the CUDA toolkit "
            f"{torch.cuda} or set CUDA_HOME, and {AGAIN}."
        )
    major = int(torch.cuda.split(".")[0])
    if nvcc.version[0] != major:
        raise Skip(
            f"nvcc in {nvcc.home} is of CUDA {nvcc.version[0]}.{nvcc.version[1]}, and torch "
            f"{torch.version} is built with CUDA {torch.cuda}; set CUDA_HOME to a toolkit "
            f"{major}.x and {AGAIN}."
        )


def cuda_architectures(wanted: str | None, nvcc: Nvcc) -> list[str]:
    """CMAKE_CUDA_ARCHITECTURES for a TORCH_CUDA_ARCH_LIST ("7.0;8.0+PTX"), else for this nvcc.

    Raises:
        Skip: an entry of the list is not a compute capability.
    """
    if not wanted:
        # 7.0 is the V100, which nvcc 13 has dropped. 8.0's code runs on 8.6 and 8.9 too.
        wanted = "7.5 8.0 9.0"
        if nvcc.version < (13, 0):
            wanted = f"7.0 {wanted}"
        if nvcc.version >= (12, 8):
            wanted = f"{wanted} 10.0 12.0"
        wanted += "+PTX"
    architectures = []
    for entry in wanted.replace(";", " ").replace(",", " ").split():
        match = re.fullmatch(r"(\d+)\.(\d[af]?)(\+PTX)?", entry)
        if not match:
            raise Skip(
                f"TORCH_CUDA_ARCH_LIST holds {entry!r}; write compute capabilities, as in "
                f"7.0;8.0+PTX, and {AGAIN}."
            )
        number = match[1] + match[2]
        architectures.append(number if match[3] else f"{number}-real")
    return architectures


def find_torch() -> Torch | None:
    """The torch that the build sees, else the one that the package will run with, else None.

    An isolated build does not see the packages of the environment it builds for, but it runs that
    environment's Python: asked without pip's PYTHONPATH, this one tells, wherever torch is (a
    virtual environment, the system's or the user's packages).
    """
    spec = importlib.util.find_spec("torch")
    origin = spec.origin if spec else None
    if origin is None:
        hidden = ("PYTHONPATH", "PYTHONNOUSERSITE")
        ask = "import importlib.util as u; s = u.find_spec('torch'); print(s.origin if s else '')"
        result = subprocess.run(
            [sys.executable, "-c", ask],
            env={name: value for name, value in os.environ.items() if name not in hidden},
            cwd="/",
            capture_output=True,
            text=True,
        )
        origin = result.stdout.strip() or None
    if origin is None or not (Path(origin).parent / "version.py").is_file():
        return None
    version = runpy.run_path(str(Path(origin).parent / "version.py"))
    return Torch(Path(origin).parent, version["__version__"], version["cuda"])


def find_nvcc(environ: Mapping[str, str]) -> Nvcc | None:
    """nvcc under CUDA_HOME (or CUDA_PATH), else in the PATH; None where there is none that runs.

    What is in the PATH may be a wrapper, so nvcc itself is asked where its toolkit is.
    """
    home = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    nvcc = f"{home}/bin/nvcc" if home else shutil.which("nvcc", path=environ.get("PATH"))
    if nvcc is None:
        return None
    try:
        version = _output(nvcc, "--version")
        dry_run = _output(nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull)
    except OSError:
        return None
    release = re.search(r"release (\d+)\.(\d+)", version)
    top = re.search(r"^#\$ TOP=(.+)$", dry_run, re.MULTILINE)
    if release is None:
        return None
    return Nvcc(
        Path(top[1] if top else Path(nvcc).parent.parent).resolve(),
        (int(release[1]), int(release[2])),
    )


def _python_options() -> dict[str, str]:
    include = sysconfig.get_path("include")
    if not Path(include, "Python.h").is_file():
        raise Skip(
            f"Python.h is not in {include}; install Python's headers (Debian: python3-dev) "
            f"and {AGAIN}."
        )
    try:
        import pybind11
    except ImportError:
        raise Skip(f"pybind11 is missing; `pip install pybind11` and {AGAIN}.") from None
    return {
        "PYTHON_INCLUDE": include,
        "PYBIND11_INCLUDE": pybind11.get_include(),
        "EXT_SUFFIX": FILES["cpu"].removeprefix("_C"),
    }


def _cmake(root: Path, library: str, options: dict[str, str]) -> Path:
    """Configure and build one library in build/<library>; return the file.

    Raises:
        Skip: a tool is missing, or the compiler has failed; the sentence holds its error.
    """
    cmake, ninja = _tool("cmake", "CMAKE_BIN_DIR"), _tool("ninja", "BIN_DIR")
    tree = root / "build" / library
    options = {"BDP_EXT_LIBRARY": library, "CMAKE_MAKE_PROGRAM": ninja, **options}
    configure = [cmake, "-S", str(root), "-B", str(tree), "-G", "Ninja"]
    configure += [f"-D{name}={value}" for name, value in options.items()]
    jobs = os.environ.get("MAX_JOBS") or str(len(os.sched_getaffinity(0)))

    # CMake keeps the compilers of a tree's first configuration; others need a new tree.
    names = ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "CUDAHOSTCXX", "CUDAFLAGS")
    compilers = {name: os.environ.get(name) for name in names}
    compilers["c++"] = shutil.which("c++")
    compilers["nvcc"] = options.get("CMAKE_CUDA_COMPILER")
    key = json.dumps(compilers)
    key_file = tree / "compilers.json"
    if tree.exists() and not (key_file.is_file() and key_file.read_text() == key):
        shutil.rmtree(tree)
    tree.mkdir(parents=True, exist_ok=True)

    try:
        _run(configure)
    except Skip:
        shutil.rmtree(tree)  # CMake would remember what failed.
        raise
    key_file.write_text(key)
    _run([cmake, "--build", str(tree), "-j", jobs])
    return tree / FILES[library]


def _run(command: list[str]) -> None:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(result.stdout, end="")
    if result.returncode:
        raise Skip(
            f"{Path(command[0]).name} has failed: {first_error(result.stdout)} "
            f"(`pip install -v -e .` prints all of it)."
        )


def first_error(output: str) -> str:
    """The line of a build's output that names the first error (the rest follow from it)."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    pattern = r"\berror\b|\bfatal\b|multiple definition of|undefined reference to"
    for line in lines:
        if re.search(pattern, line, re.IGNORECASE) and not line.startswith("CMake Error"):
            return line
    # "CMake Error at CMakeLists.txt:6 (project):" says less than what follows it.
    for at, line in enumerate(lines):
        if line.startswith("CMake Error"):
            return " ".join(lines[at + 1 : at + 4]) or line
    return lines[-1] if lines else "it printed nothing"


def _tool(name: str, folder: str) -> str:
    """The program `name`: the Python package's, which names its folder, else the PATH's."""
    with contextlib.suppress(ImportError, AttributeError):
        path = Path(getattr(importlib.import_module(name), folder), name)
        if path.is_file():
            return str(path)
    found = shutil.which(name)
    if found is None:
        raise Skip(f"{name} is missing; `pip install {name}` and {AGAIN}.")
    return found


def _output(*command: str) -> str:
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.stdout


def _replace(path: Path, content: bytes) -> None:
    """Write a file in one step, and only if it differs: a running process may have it mapped."""
    if path.is_file() and path.read_bytes() == content:
        return
    new = path.with_name(path.name + ".new")
    new.write_bytes(content)
    new.replace(path)
