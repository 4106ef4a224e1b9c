"""The build's decisions."""

import json
import stat
from pathlib import Path

import build_libraries
import pytest
import torch
from build_libraries import BuildError, Nvcc, Skip, Torch

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
    build_libraries.build(Path(__file__).parents[2], target)
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
