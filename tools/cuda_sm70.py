"""Compiles the CUDA kernels for sm_70 (V100), which nvcc 13 no longer does.

By NVRTC 12.9, device code only: the compiler of CUDA 12.9 as a library. It comes from the Python
package nvidia-cuda-nvrtc-cu12 and is put into .cache/, away from torch's own. No GPU is needed.
"""

import ctypes
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = "nvidia-cuda-nvrtc-cu12==12.9.86"
FOLDER = ROOT / ".cache/nvrtc-12.9.86"
LIBRARY = FOLDER / "nvidia/cuda_nvrtc/lib/libnvrtc.so.12"


class CompileError(RuntimeError):
    """NVRTC does not take the source; the message is its log."""


def install() -> None:
    """Put NVRTC into .cache unless it is there.

    Raises:
        RuntimeError: pip has failed; the message is pip's.
    """
    if LIBRARY.is_file():
        return
    pip = [ROOT / "tools/retry", sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    result = subprocess.run(
        [*pip, "--upgrade", "--target", FOLDER, PACKAGE], capture_output=True, text=True
    )
    if result.returncode:
        raise RuntimeError(f"cannot install {PACKAGE}: {result.stderr.strip()}")


def compile_sm70(headers: Sequence[Path], kernels: Sequence[str]) -> tuple[str, str]:
    """Compile instances of kernel templates.

    Args:
        headers: the .cuh files that define them.
        kernels: C++ name expressions, such as "bdp_ext::voe_kernel<4, 1>".

    Returns:
        Their PTX, and the compiler's log with `ptxas -v`.

    Raises:
        CompileError: warnings included.
    """
    install()
    nvrtc = ctypes.CDLL(str(LIBRARY))
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p

    def call(name: str, *arguments: object) -> None:
        status = getattr(nvrtc, name)(*arguments)
        if status:
            raise CompileError(f"{name}: {nvrtc.nvrtcGetErrorString(status).decode()}\n{log()}")

    def text(kind: str) -> str:
        size = ctypes.c_size_t()
        if getattr(nvrtc, f"nvrtcGet{kind}Size")(program, ctypes.byref(size)):
            return ""
        buffer = ctypes.create_string_buffer(size.value)
        getattr(nvrtc, f"nvrtcGet{kind}")(program, buffer)
        return buffer.raw.rstrip(b"\0").decode()

    def log() -> str:
        return text("ProgramLog")

    program = ctypes.c_void_p()
    source = "".join(f'#include "{header}"\n' for header in headers).encode()
    call("nvrtcCreateProgram", ctypes.byref(program), source, b"sm_70.cu", 0, None, None)
    try:
        for kernel in kernels:
            call("nvrtcAddNameExpression", program, kernel.encode())
        options = [
            "--gpu-architecture=sm_70",
            "--std=c++17",
            "--device-as-default-execution-space",  # lambdas; nvcc infers it
            "--ptxas-options=-v",
        ]
        array = (ctypes.c_char_p * len(options))(*(o.encode() for o in options))
        call("nvrtcCompileProgram", program, len(options), array)
        warnings = [line for line in log().splitlines() if "warning" in line]
        if any("Architectures prior to" not in line for line in warnings):  # that one we know
            raise CompileError(log())
        return text("PTX"), log()
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
