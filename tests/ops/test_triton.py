"""The Triton kernels without a GPU: right under Triton's interpreter, compiled ahead of time for
Volta, Ampere and Hopper without a spilled register, and chosen where they should be."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import oracles
import pytest
import torch
from torch import Tensor

import bdp_ext
from bdp_ext import kernels, ops
from bdp_ext.ops import libraries, register

needs_triton = pytest.mark.skipif(not kernels.installed(), reason="no triton: pip install triton")
needs_compiler = pytest.mark.skipif(
    not kernels.installed() or os.environ.get("TRITON_INTERPRET") == "1",
    reason="triton is absent or interpreting",
)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs this Python in the tests' folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environment,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_triton
def test_operations_under_the_interpreter() -> None:
    """In a process of its own: triton reads the variable when it is imported."""
    done = python("-m", "pytest", "-q", "triton_cases.py", TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


class Launch(NamedTuple):
    """What a launcher handed to a kernel."""

    kernel: Any
    arguments: dict[str, Any]


POINTERS = {
    torch.float64: "*fp64",
    torch.float32: "*fp32",
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.int64: "*i64",
    torch.int32: "*i32",
    torch.int16: "*i16",
    torch.int8: "*i8",
    torch.bool: "*i1",
}


def compile_ahead(launch: Launch, capability: int) -> str:
    """The PTX of what this launch would compile on such a GPU, with Triton's own specialisation: 1
    is a constant, and what 16 divides is known to be so divided."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel, arguments = launch
    signature, constants, known = {}, {}, {}
    for parameter in kernel.params:
        name, value = parameter.name, arguments[parameter.name]
        specialize = not parameter.do_not_specialize
        if isinstance(value, Tensor):
            signature[name], aligned = POINTERS[value.dtype], value.data_ptr() % 16 == 0
        elif isinstance(value, tuple):
            signature[name], aligned = tuple(POINTERS[x.dtype] for x in value), False
            for i, x in enumerate(value):
                if x.data_ptr() % 16 == 0:
                    known[(parameter.num, i)] = [["tt.divisibility", 16]]
        elif isinstance(value, float):
            signature[name], aligned = "fp32", False
        elif parameter.is_constexpr or (value == 1 and specialize):
            signature[name], constants[name], aligned = "constexpr", value, False
        else:
            signature[name], aligned = "i32" if value < 2**31 else "i64", value % 16 == 0
        if aligned and specialize:
            known[(parameter.num,)] = [["tt.divisibility", 16]]
    compiled = triton.compile(
        ASTSource(kernel, signature, constants, known),
        target=GPUTarget("cuda", capability, 32),
        options={name: arguments[name] for name in arguments.keys() - set(kernel.arg_names)},
    )
    ptx: str = compiled.asm["ptx"]
    return ptx


def ptxas(ptx: str, capability: int, folder: Path) -> str:
    """What Triton's assembler says of registers and spills."""
    import triton

    source = folder / "kernel.ptx"
    source.write_text(ptx)
    architecture = f"sm_{capability}{'a' if capability >= 90 else ''}"
    return subprocess.run(
        [
            Path(triton.__file__).parent / "backends/nvidia/bin/ptxas",
            *("-v", f"--gpu-name={architecture}", source, "-o", folder / "kernel.cubin"),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stderr


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """Collects what the launchers launch, instead of that."""
    from triton.runtime.jit import JITFunction

    recorded: list[Launch] = []

    def record(self: Any, *values: Any, grid: Any, warmup: bool, **named: Any) -> None:
        recorded.append(Launch(self, dict(zip(self.arg_names, values, strict=False)) | named))

    monkeypatch.setattr(JITFunction, "run", record)
    return recorded


def long(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64)


LOGITS = {
    "10": torch.zeros(96, 10),
    "33": torch.zeros(96, 33, dtype=torch.bfloat16),
    "513": torch.zeros(96, 513),
    "1000-half": torch.zeros(96, 1000, dtype=torch.float16),
    "21841": torch.zeros(2, 21841),
    "one": torch.zeros(1, 1),
    "transposed": torch.zeros(10, 96).t(),
}
WINDOWS = {
    "10x50000": torch.zeros(10, 50_000),
    "strided": torch.zeros(10, 50_001)[:, ::2],
    "one": torch.zeros(1, 1),
}


@needs_compiler
@pytest.mark.parametrize("capability", [70, 80, 90])
def test_compiles_without_spills(capability: int, launches: list[Launch], tmp_path: Path) -> None:
    window, variance = torch.zeros(10, 50_000), torch.zeros(50_000)
    for logits in LOGITS.values():
        rows = long(logits.shape[0])
        kernels.launcher("el2n")(logits, rows)
        kernels.launcher("update_voe_")(window, variance, 3, rows, logits, rows)
    kernels.launcher("update_voe_")(*(torch.zeros(1, 1), torch.zeros(1), 0, long(1)), logits, rows)
    for ring in WINDOWS.values():
        kernels.launcher("voe")(ring)
    select = kernels.launcher("capped_topk")
    select(torch.zeros(50_000), long(50_000), long(10), 20_000, True)
    select(torch.zeros(50_001), long(50_001).int(), long(40_000), 20_000, False)
    select(torch.zeros(1), long(1).short(), long(1), 1, False)

    assert len(launches) == 2 * len(LOGITS) + 1 + len(WINDOWS) + 3 * 4
    for launch in launches:
        report = ptxas(compile_ahead(launch, capability), capability, tmp_path)
        assert "0 bytes spill stores, 0 bytes spill loads" in report, (launch.kernel, report)


@needs_compiler
@pytest.mark.parametrize("capability", [70, 80, 90])
@pytest.mark.parametrize(
    ("channels", "dtype"),
    [
        (16, torch.float32),
        (17, torch.float32),
        (300, torch.float32),
        (16, torch.float16),
        (17, torch.bfloat16),
    ],
)
def test_nodes_compile_without_spills(
    channels: int, dtype: torch.dtype, capability: int, launches: list[Launch], tmp_path: Path
) -> None:
    inputs = [torch.zeros(8, channels, 8, 8, dtype=dtype) for _ in range(5)]
    weight = torch.zeros(5)
    normed, moments = [True, False, True, True, True], torch.zeros(5, channels)
    kernels.launcher("node_sum")(inputs, weight, normed, 1e-5)
    arguments = (inputs[0], inputs, weight, normed, moments, moments, 1e-5, [True] * 5, True)
    kernels.launcher("node_sum_backward")(*arguments)
    kernels.launcher("norm_relu")(inputs[0], 1e-5)
    arguments = (inputs[0], inputs[0], moments[0], moments[0], 1e-5)
    kernels.launcher("norm_relu_backward")(*arguments)
    assert len(launches) == (4 * 2 + 1) + (5 * 3) + 3 + 3
    seen = set()
    for launch in launches:
        flags = (launch.arguments.get("NORMED"), launch.arguments.get("RELU"))
        if (launch.kernel, flags) in seen:
            continue
        seen.add((launch.kernel, flags))
        report = ptxas(compile_ahead(launch, capability), capability, tmp_path)
        assert "0 bytes spill stores, 0 bytes spill loads" in report, (launch.kernel, report)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_of_1000_are_read_128_bits_wide(dtype: torch.dtype, launches: list[Launch]) -> None:
    """Their stride is no multiple of 16, which is all that Triton sees by itself."""
    kernels.launcher("el2n")(torch.zeros(96, 1000, dtype=dtype), long(96))
    assert "ld.global.v4.b32" in compile_ahead(launches[0], 80)


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_nodes_round_to_nearest(dtype: torch.dtype, launches: list[Launch]) -> None:
    """The interpreter cuts a bfloat16 off, so it cannot show this."""
    kernels.launcher("norm_relu")(torch.zeros(8, 16, 8, 8, dtype=dtype), 1e-5)
    name = "bf16" if dtype == torch.bfloat16 else "f16"
    assert re.search(rf"cvt\.rn\.{name}(x2)?\.f32", compile_ahead(launches[-1], 80))


@needs_compiler
def test_update_voe_is_one_launch(launches: list[Launch]) -> None:
    logits, rows = torch.zeros(96, 10), long(96)
    kernels.launcher("update_voe_")(torch.zeros(3, 9), torch.zeros(9), 0, rows, logits, rows)
    assert [launch.kernel.__name__ for launch in launches] == ["update_voe_kernel"]


@needs_compiler
def test_the_exponent_keeps_its_correction(launches: list[Launch]) -> None:
    """exp_below_one adds x log2(e) - y, which a compiler that takes liberties would call 0."""
    kernels.launcher("el2n")(torch.zeros(96, 10), long(96))
    ptx = compile_ahead(launches[0], 80)
    power = re.search(r"ex2\.approx\S*\s+(%r\d+), (%r\d+)", ptx)
    assert power is not None
    product = re.search(rf"mul\.f32\s+{power[2]}, (%r\d+), 0f3FB8AA3B", ptx)
    assert product is not None
    assert re.search(rf"neg\.f32\s+%r\d+, {power[2]};", ptx)
    assert re.search(rf"fma\.rn\.f32\s+%r\d+, {product[1]}, 0f3FB8AA3B, %r\d+", ptx)


def test_owner_of_cuda() -> None:
    for op in kernels.OPERATIONS:
        if libraries.loaded("cuda"):
            expected = "compiled"
        elif torch.version.cuda is not None and kernels.installed():
            expected = "triton"
        else:
            expected = "reference"
        assert register.owner(op, "cuda") == expected


@needs_triton
def test_forced_on_the_cpu_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with (
        bdp_ext.backend("triton"),
        pytest.raises(RuntimeError, match=r"voe: backend 'triton' .* set TRITON_INTERPRET=1"),
    ):
        ops.voe(torch.zeros(3, 5))


@needs_triton
def test_forced_on_a_device_that_triton_does_not_know() -> None:
    with bdp_ext.backend("triton"), pytest.raises(RuntimeError, match="does not run on meta"):
        ops.voe(torch.zeros(3, 5, device="meta"))


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "installed", lambda: False)
    with pytest.raises(RuntimeError, match="pip install triton"), bdp_ext.backend("triton"):
        pass


def test_imports_no_triton() -> None:
    """And with none installed, the package imports and the reference owns CUDA."""
    done = python("-c", "import bdp_ext, sys; assert 'triton.language' not in sys.modules")
    assert done.returncode == 0, done.stderr
    block = "import sys; sys.modules['triton'] = None; import bdp_ext; from bdp_ext import kernels"
    done = python("-c", f"{block}; assert not kernels.installed()")
    assert done.returncode == 0, done.stderr


@needs_triton
def test_forced_by_the_environment() -> None:
    code = "import torch; from bdp_ext import ops; print(ops.voe(torch.ones(2, 1)).item())"
    done = python("-c", code, BDP_EXT_BACKEND="triton", TRITON_INTERPRET="1")
    assert done.stdout.strip() == "0.0", done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@needs_compiler
@pytest.mark.parametrize("logits", LOGITS.values(), ids=LOGITS.keys())
def test_on_a_gpu(logits: Tensor) -> None:
    """Against the oracles, and again in a replayed CUDA graph: so nothing waits for the device."""
    generator = torch.Generator().manual_seed(0)
    B, C = logits.shape
    values = torch.randn(B, C, generator=generator) * 5
    logits = torch.empty_like(logits, device="cuda").copy_(values)  # keeps the strides
    target = torch.randint(C, (B,), generator=generator).cuda()
    index = torch.randint(-1, B, (B,), generator=generator).cuda()
    label = torch.randint(-1, 8, (5000,), generator=generator).cuda()
    score, cap = torch.randn(5000, generator=generator).cuda(), torch.arange(-1, 6).cuda() * 99
    window, voe = torch.rand(10, B, generator=generator).cuda(), torch.zeros(B).cuda()
    expected_window = oracles.update_voe(
        *(x.cpu() for x in (window, voe)), 3, *(x.cpu() for x in (index, logits, target))
    )[0]
    expected_mask = oracles.capped_topk(*(x.cpu() for x in (score, label, cap)), 400, False)[0]

    def all_four() -> tuple[Tensor, ...]:
        ops.update_voe_(window, voe, 3, index, logits, target)
        selected = ops.capped_topk(score, label, cap, 400, largest=False)
        return ops.el2n(logits, target), ops.voe(window), *selected

    def check(scores: Tensor, variance: Tensor, mask: Tensor, taken: Tensor) -> None:
        expected = oracles.el2n(logits.cpu(), target.cpu())
        assert oracles.relative_error(scores.cpu(), expected) <= 1e-6
        assert oracles.relative_error(window.cpu(), expected_window) <= 1e-6
        assert oracles.relative_error(variance.cpu(), oracles.voe(window.cpu())) <= 1e-6
        touched = index[index >= 0]
        assert torch.equal(voe[touched], variance[touched])
        assert torch.equal(mask.cpu(), expected_mask)
        assert int(taken) == int(expected_mask.sum())

    with bdp_ext.backend("triton"):
        check(*all_four())
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = all_four()
        graph.replay()
        check(*captured)
