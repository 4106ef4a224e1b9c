"""What the compilers make of the CUDA kernels, no GPU needed: `python tools/kernel_report.py`.

For each kernel and architecture: registers, spills, shared memory, occupancy, and how wide its
global loads are in PTX. sm_70 is compiled by NVRTC 12.9 (tools/cuda_sm70.py), the others by nvcc.

Exits with 1 where a kernel does not compile, a compiler warns, or a register spills; `--check`
prints that alone.
"""

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

import cuda_sm70
from build_libraries import find_nvcc

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "csrc/cuda"
CACHE = ROOT / "build/kernel_report"
FILES = ("el2n", "update_voe_", "voe", "capped_topk", "node_sum")
NVCC_ARCHITECTURES = (75, 80, 90, 100, 120)
NVCC = find_nvcc(os.environ)


@dataclass(frozen=True)
class Limits:
    """What one multiprocessor holds at most."""

    warps: int
    blocks: int
    shared: int  # bytes
    reserved: int  # bytes of shared memory that the system takes for each block


# CUDA C++ Programming Guide, "Technical Specifications per Compute Capability"; cuda_occupancy.h.
LIMITS = {
    70: Limits(64, 32, 96 << 10, 0),
    75: Limits(32, 16, 64 << 10, 0),
    80: Limits(64, 32, 164 << 10, 1 << 10),
    90: Limits(64, 32, 228 << 10, 1 << 10),
    100: Limits(64, 32, 228 << 10, 1 << 10),
    120: Limits(48, 24, 100 << 10, 1 << 10),
}
REGISTERS, REGISTERS_A_WARP, SUBPARTITIONS = 65536, 256, 4


@dataclass
class Kernel:
    """One instance of a kernel for one architecture."""

    file: str
    name: str  # C++, without the namespace and the arguments
    registers: int = 0
    spills: int = 0  # bytes stored and loaded
    shared: int = 0
    threads: int = 0
    loads: dict[str, int] = field(default_factory=dict)  # by width in bits

    def occupancy(self, architecture: int) -> float:
        """Warps that fit, as a share of the most possible."""
        limits, warps = LIMITS[architecture], self.threads // 32
        a_warp = -(-self.registers * 32 // REGISTERS_A_WARP) * REGISTERS_A_WARP
        by_registers = REGISTERS // SUBPARTITIONS // a_warp * SUBPARTITIONS // warps
        shared = self.shared + limits.reserved
        by_shared = limits.shared // shared if shared else limits.blocks
        blocks = min(limits.blocks, limits.warps // warps, by_registers, by_shared)
        return blocks * warps / limits.warps


def run(*command: str | Path) -> str:
    result = subprocess.run(
        [str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if result.returncode:
        raise cuda_sm70.CompileError(f"{' '.join(str(c) for c in command)}\n{result.stdout}")
    return result.stdout


def demangle(names: list[str]) -> list[str]:
    """C++, without the arguments: `bdp_ext::voe_kernel<4, 1>`."""
    return run("c++filt", "--no-params", *names).splitlines()


def block_sizes() -> dict[str, int | None]:
    """Threads in a block by __launch_bounds__; None: the kernel's template argument says."""
    text = "".join(path.read_text() for path in sorted(SOURCES.glob("*.cuh")))
    constants = {n: int(v) for n, v in re.findall(r"constexpr int (k\w+) = (\d+);", text)}
    kernels = re.findall(r"__launch_bounds__\((\w+), 1\)\s+(\w+_kernel)\(", text)
    return {kernel: constants.get(threads) for threads, kernel in kernels}


def read_log(file: str, log: str) -> dict[str, Kernel]:
    """`ptxas -v`, by mangled name."""
    kernels: dict[str, Kernel] = {}
    name = ""
    for line in log.splitlines():
        if match := re.search(r"Compiling entry function '(\w+)'", line):
            name = match[1]
            kernels[name] = Kernel(file, "")
        elif name and (
            match := re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", line)
        ):
            kernels[name].spills += int(match[1]) + int(match[2])
        elif name and (match := re.search(r"Used (\d+) registers", line)):
            kernels[name].registers = int(match[1])
            shared = re.search(r"(\d+) bytes smem", line)
            kernels[name].shared = int(shared[1]) if shared else 0
    sizes = block_sizes()
    for kernel, plain in zip(kernels.values(), demangle(list(kernels)), strict=True):
        kernel.name = plain.removeprefix("bdp_ext::")
        base, *template = re.split(r"[<,>]", kernel.name)
        kernel.threads = sizes[base] or int(template[0])
    return kernels


def read_loads(kernels: dict[str, Kernel], ptx: str) -> None:
    """Count the global loads by their width."""
    name = ""
    for line in ptx.splitlines():
        if match := re.search(r"\.entry (\w+)", line):
            name = match[1]
        elif name in kernels and (match := re.search(r"\bld\.global([\w.]+)", line)):
            loads, bits = kernels[name].loads, width(match[1])
            loads[bits] = loads.get(bits, 0) + 1


def width(suffixes: str) -> str:
    """Bits of a load from its instruction's suffixes: `.nc.v4.u32` is 128."""
    match = re.search(r"(?:\.v(\d))?\.\w(\d+)$", suffixes)
    assert match is not None, suffixes
    return str(int(match[1] or 1) * int(match[2]))


def compile_nvcc(file: str, architecture: int) -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        assert NVCC is not None
        command = [NVCC.home / "bin/nvcc", "-std=c++17", "-O3", f"-I{SOURCES.parent}"]
        command += ["--Werror", "all-warnings", "-Xptxas", "-v,-warn-spills"]
        command += ["-cubin", f"-arch=sm_{architecture}", "--keep", "--keep-dir", folder]
        log = run(*command, "-o", f"{folder}/out.cubin", SOURCES / f"{file}.cu")
        return Path(folder, f"{file}.ptx").read_text(), log


def compile_70(file: str, names: list[str]) -> tuple[str, str]:
    """The same instances as nvcc's, by NVRTC."""
    headers = re.findall(r'"cuda/(\w+\.cuh)"', (SOURCES / f"{file}.cu").read_text())
    return cuda_sm70.compile_sm70([SOURCES / header for header in headers], names)


def compiled(file: str, architecture: int, names: list[str]) -> list[Kernel]:
    """The kernels of a file for one architecture, compiled or from build/kernel_report."""
    digest = hashlib.sha256(f"{architecture} {names} {cuda_sm70.PACKAGE} {NVCC}".encode())
    for path in [
        SOURCES.parent / "ops.h",
        *sorted(SOURCES.glob("*.*h")),
        SOURCES / f"{file}.cu",
        *sorted(Path(__file__).parent.glob("*.py")),
    ]:
        digest.update(path.read_bytes())
    kept = CACHE / f"{file}-{architecture}-{digest.hexdigest()[:16]}.json"
    if kept.is_file():
        return [Kernel(**kernel) for kernel in json.loads(kept.read_text())]
    ptx, log = compile_70(file, names) if architecture == 70 else compile_nvcc(file, architecture)
    found = read_log(file, log)
    read_loads(found, ptx)
    kernels = list(found.values())
    if architecture == 70 and len(kernels) != len(names):
        raise cuda_sm70.CompileError(f"{file}: sm_70 has {len(kernels)} kernels of {len(names)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps([asdict(kernel) for kernel in kernels]))
    return kernels


def compile_all(architectures: tuple[int, ...]) -> dict[int, list[Kernel]]:
    """Every kernel for every architecture.

    Raises:
        CompileError: a kernel does not compile without a warning; to nvcc a spill is one.
    """
    if NVCC is None:
        raise cuda_sm70.CompileError("there is no nvcc: set CUDA_HOME")
    found: dict[int, list[Kernel]] = defaultdict(list)
    for file in FILES:
        names: list[str] = []  # of the instances, as nvcc's launchers make them
        for architecture in sorted(architectures, reverse=True):
            kernels = compiled(file, architecture, names if architecture == 70 else [])
            names = sorted(f"bdp_ext::{kernel.name}" for kernel in kernels)
            found[architecture] += kernels
    return found


def print_kernels(found: dict[int, list[Kernel]]) -> None:
    head = f"{'file':12} {'kernel':58} regs spill shared warps  global loads, bits x count"
    for architecture, kernels in sorted(found.items()):
        print(f"\nsm_{architecture} ({'NVRTC 12.9' if architecture == 70 else 'nvcc'})\n{head}")
        for kernel in kernels:
            name = kernel.name.replace("bdp_ext::", "")
            counts = sorted(kernel.loads.items(), key=lambda load: -int(load[0]))
            print(
                f"{kernel.file:12} {name:58} {kernel.registers:4} {kernel.spills:5} "
                f"{kernel.shared:6} {kernel.occupancy(architecture):5.0%}  "
                + ", ".join(f"{bits} x {count}" for bits, count in counts)
            )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="only say whether all compile without a warning and without spills",
    )
    arguments = parser.parse_args()
    try:
        found = compile_all((70, *NVCC_ARCHITECTURES))
    except (cuda_sm70.CompileError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    if not arguments.check:
        print_kernels(found)
    spilling = [
        f"sm_{architecture}: {kernel.name} spills {kernel.spills} bytes"
        for architecture, kernels in sorted(found.items())
        for kernel in kernels
        if kernel.spills
    ]
    count = sum(map(len, found.values()))
    names = ", ".join(f"sm_{architecture}" for architecture in sorted(found))
    print("\n".join(spilling) or f"\n{count} kernels on {names}: no warning, no spill")
    return 1 if spilling else 0


if __name__ == "__main__":
    sys.exit(main())
