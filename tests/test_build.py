"""The build's decisions, and that build_info() says what is true."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import build_libraries
import pytest
import torch
from build_libraries import BuildError, Nvcc, Skip, Torch

import bdp_ext
from bdp_ext.ops import libraries, register

CUDA_13 = Torch(Path("/t"), "2.14.1+cu130", "13.0")
CUDA_12 = Torch(Path("/t"), "2.10.0+cu128", "12.8")
CPU_ONLY = Torch(Path("/t"), "2.13.0+cpu", None)
NVCC_13 = Nvcc(Path("/usr/local/cuda-13.0"), (13, 0))
NVCC_12 = Nvcc(Path("/usr/local/cuda-12.9"), (12, 9))


@pytest.mark.parametrize(
    ("torch_found", "nvcc", "sentence"),
    [
        (CPU_ONLY, NVCC_13, "torch 2.13.0.cpu is built without CUDA; install a CUDA build"),
        (CUDA_13, None, "there is no nvcc.* install the CUDA toolkit 13.0 or set CUDA_HOME"),
        (CUDA_13, NVCC_12, "of CUDA 12.9, and torch .* CUDA 13.0; set CUDA_HOME to a toolkit 13.x"),
        (CUDA_12, NVCC_13, "of CUDA 13.0, and torch .* CUDA 12.8; set CUDA_HOME to a toolkit 12.x"),
    ],
)
def test_cuda_is_skipped_with_a_reason(
    torch_found: Torch, nvcc: Nvcc | None, sentence: str
) -> None:
    with pytest.raises(Skip, match=sentence):
        build_libraries.check_cuda(torch_found, nvcc)


@pytest.mark.parametrize(("torch_found", "nvcc"), [(CUDA_13, NVCC_13), (CUDA_12, NVCC_12)])
def test_cuda_is_built_where_torch_and_nvcc_agree(torch_found: Torch, nvcc: Nvcc) -> None:
    build_libraries.check_cuda(torch_found, nvcc)


@pytest.mark.parametrize(
    ("wanted", "nvcc", "architectures"),
    [
        (None, (13, 0), "75-real 80-real 90-real 100-real 120"),
        (None, (12, 9), "70-real 75-real 80-real 90-real 100-real 120"),
        (None, (12, 6), "70-real 75-real 80-real 90"),
        ("7.0", (12, 9), "70-real"),
        ("8.0;9.0a+PTX", (13, 0), "80-real 90a"),
        ("8.0, 8.6 9.0+PTX", (13, 0), "80-real 86-real 90"),
    ],
)
def test_cuda_architectures(wanted: str | None, nvcc: tuple[int, int], architectures: str) -> None:
    assert (
        build_libraries.cuda_architectures(wanted, Nvcc(Path("/c"), nvcc)) == architectures.split()
    )


def test_an_architecture_that_is_no_number_is_named() -> None:
    with pytest.raises(Skip, match="TORCH_CUDA_ARCH_LIST holds 'Volta'; write compute capabil"):
        build_libraries.cuda_architectures("Volta", NVCC_12)


def test_wish() -> None:
    assert build_libraries.wish("cuda", {}) == "auto"
    assert build_libraries.wish("cuda", {"BDP_EXT_CUDA": "0", "BDP_EXT_CPU": "1"}) == "0"
    with pytest.raises(BuildError, match="BDP_EXT_CPU must be auto, 0 or 1, got 'yes'"):
        build_libraries.wish("cpu", {"BDP_EXT_CPU": "yes"})


def test_nvcc_behind_a_wrapper(tmp_path: Path) -> None:
    """The toolkit is where nvcc says, not where the wrapper lies."""
    nvcc = tmp_path / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        'case "$1" in\n'
        '--version) echo "Cuda compilation tools, release 12.9, V12.9.86" ;;\n'
        '*) echo "#$ TOP=/opt/toolkit/bin/.." ;;\n'
        "esac\n"
    )
    nvcc.chmod(nvcc.stat().st_mode | stat.S_IXUSR)
    assert build_libraries.find_nvcc({"PATH": str(tmp_path)}) == Nvcc(Path("/opt/toolkit"), (12, 9))
    assert build_libraries.find_nvcc({"PATH": ""}) is None
    assert build_libraries.find_nvcc({"CUDA_HOME": str(tmp_path / "none")}) is None


def test_the_build_finds_the_torch_of_this_environment() -> None:
    found = build_libraries.find_torch()
    assert found is not None
    assert found.version == str(torch.__version__)
    assert found.cuda == torch.version.cuda


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (
            "a.cpp:3:1: error: 'x' was not declared\n    3 | x\nninja: build stopped.\n",
            "a.cpp:3:1: error: 'x' was not declared",
        ),
        (
            'CMake Error at a:6 (m):\n The C++ compiler\n\n  "/bin/x"\n\n does not work.\n-- B\n',
            'The C++ compiler "/bin/x" does not work.',
        ),
        (
            "a.o: undefined reference to `f()'\ncollect2: error: ld returned 1\nninja: stopped\n",
            "a.o: undefined reference to `f()'",
        ),
        ("Killed\n", "Killed"),
        ("", "it printed nothing"),
    ],
)
def test_first_error(output: str, line: str) -> None:
    assert build_libraries.first_error(output) == line


def build_with(monkeypatch: pytest.MonkeyPatch, target: Path, **environ: str) -> dict[str, object]:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    build_libraries.build(Path(__file__).parents[1], target)
    report: dict[str, object] = json.loads((target / "_build.json").read_text())["libraries"]
    return report


def test_a_library_left_out_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = tmp_path / build_libraries.FILES["cpu"]
    stale.touch()
    report = build_with(monkeypatch, tmp_path, BDP_EXT_CPU="0", BDP_EXT_CUDA="0")
    assert not stale.exists()
    assert report["cpu"] == {
        "built": False,
        "reason": "it was left out (BDP_EXT_CPU=0); unset that and run `pip install -e .` again.",
    }


def test_a_library_asked_for_that_cannot_be_built_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_libraries, "find_torch", lambda: None)
    with pytest.raises(BuildError, match="BDP_EXT_CUDA=1, but torch was not installed"):
        build_with(monkeypatch, tmp_path, BDP_EXT_CPU="0", BDP_EXT_CUDA="1")


def test_build_info_says_what_is_true() -> None:
    info = bdp_ext.build_info()
    assert json.loads(json.dumps(info)) == info
    assert info["versions"]["bdp_ext"] == bdp_ext.__version__
    assert info["versions"]["torch"] == str(torch.__version__)
    for name, library in info["libraries"].items():
        path = libraries.FOLDER / build_libraries.FILES[name]
        assert library["built"] == path.is_file()
        assert library["loaded"] == (str(path) in Path("/proc/self/maps").read_text())
        assert library["loaded"] == (library["reason"] == "")
    compiled = info["libraries"]["cpu"]["loaded"]
    for op, owners in info["operations"].items():
        by_torch = not compiled or op.startswith("pool3x3")
        assert owners["cpu"] == ("reference" if by_torch else "compiled")


@pytest.mark.parametrize("op", register.SCHEMAS)
def test_one_owner_per_op_and_device(op: str) -> None:
    """A second registration for a dispatch key leaves the first in the dump, as inactive."""
    dump = torch._C._dispatch_dump(f"bdp_ext::{op}")
    assert "inactive" not in dump
    assert set(bdp_ext.build_info()["operations"]) == set(register.SCHEMAS)


def test_a_forced_backend_that_is_missing_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(libraries._reasons, "cpu", "it was left out; do this.")
    with pytest.raises(RuntimeError, match="backend 'cpu' is not there: it was left out; do this"):
        bdp_ext.backend("cpu").__enter__()


def test_a_library_that_does_not_load_becomes_the_reason(tmp_path: Path) -> None:
    """Also: the package imports without it, and computes with plain torch."""
    package = tmp_path / "bdp_ext"
    shutil.copytree(libraries.FOLDER, package, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    (package / build_libraries.FILES["cpu"]).write_bytes(b"no library")
    built = {"cpu": {"built": True, "reason": ""}, "cuda": {"built": False, "reason": "none"}}
    (package / "_build.json").write_text(json.dumps({"libraries": built}))

    def run(**environ: str) -> subprocess.CompletedProcess[str]:
        code = (
            "import bdp_ext, torch; from bdp_ext import ops; from bdp_ext.ops import libraries;"
            "print(ops.voe(torch.ones(3, 2)).tolist(), libraries.reason('cpu'))"
        )
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env={**os.environ, **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    plain = run()
    assert plain.returncode == 0, plain.stderr
    assert f"[0.0, 0.0] the cpu library in {package} does not load with torch" in plain.stdout
    assert "run `pip install -e .` again" in plain.stdout

    forced = run(BDP_EXT_BACKEND="cpu")
    assert forced.returncode != 0
    assert "backend 'cpu' is not there: the cpu library in" in forced.stderr
