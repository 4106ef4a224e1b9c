"""The CUDA kernels compile for every architecture we name, without a warning or a spill.

No GPU is needed. Linking and loading the library is the business of the build's own tests.
"""

import re
import shutil
from pathlib import Path

import cuda_sm70
import kernel_report
import pytest

CSRC = Path(__file__).parents[2] / "csrc"

needs_nvcc = pytest.mark.skipif(
    kernel_report.NVCC is None or shutil.which("c++filt") is None,
    reason="there is no nvcc (set CUDA_HOME), or no c++filt (binutils)",
)


@pytest.fixture(scope="module")
def nvrtc() -> None:
    try:
        cuda_sm70.install()
    except RuntimeError as error:
        pytest.skip(str(error))


@needs_nvcc
@pytest.mark.parametrize("architecture", kernel_report.NVCC_ARCHITECTURES)
def test_kernels_compile_without_a_spill(architecture: int) -> None:
    kernels = kernel_report.compile_all((architecture,))[architecture]
    names = {kernel.name.split("<")[0] for kernel in kernels}
    assert names == set(
        kernel_report.block_sizes()
    )  # each kernel of the .cuh files is instantiated
    assert [kernel.name for kernel in kernels if kernel.spills] == []


@needs_nvcc
@pytest.mark.usefixtures("nvrtc")
def test_kernels_compile_for_the_v100() -> None:
    found = kernel_report.compile_all((70, 90))
    assert sorted(k.name for k in found[70]) == sorted(k.name for k in found[90])
    assert [kernel.name for kernel in found[70] if kernel.spills] == []


@needs_nvcc
def test_rows_are_read_128_bits_at_a_time() -> None:
    kernels = kernel_report.compile_all((90,))[90]
    wide = ("el2n_warp_kernel", "el2n_block_kernel", "voe_kernel<16, 4>")
    for kernel in kernels:
        if kernel.name.startswith(wide):
            assert kernel.loads.get("128", 0) >= 1, kernel.name


def test_occupancy_follows_the_limits() -> None:
    kernel = kernel_report.Kernel("f", "k", registers=32, threads=256)
    assert kernel.occupancy(70) == 1.0
    assert kernel_report.Kernel("f", "k", registers=64, threads=256).occupancy(70) == 0.5
    # 48 KB a block: two of them in the V100's 96 KB.
    assert kernel_report.Kernel("f", "k", 32, 0, 48 << 10, 256).occupancy(70) == 0.25
    assert kernel_report.Kernel("f", "k", 32, 0, 0, 1024).occupancy(75) == 1.0


@pytest.mark.parametrize(
    ("suffixes", "bits"),
    [
        (".nc.v4.u32", "128"),
        (".nc.u16", "16"),
        (".f32", "32"),
        (".u64", "64"),
    ],
)
def test_width_of_a_load(suffixes: str, bits: str) -> None:
    assert kernel_report.width(suffixes) == bits


def test_only_the_stable_abi_of_torch_is_spoken() -> None:
    """And nothing of torch where the kernels are."""
    stable = ("torch/csrc/stable/", "torch/csrc/inductor/aoti_torch/c/shim.h")
    seeing = set()
    for path in CSRC.rglob("*.*"):
        headers = re.findall(r"#include <((?:torch|ATen|c10)/.+)>", path.read_text())
        assert all(header.startswith(stable) for header in headers), path
        if headers and path.parent.name == "cuda":
            seeing.add(path.name)
    assert seeing == {"run.cpp"}
