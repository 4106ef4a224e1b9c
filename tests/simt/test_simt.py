"""The CUDA kernels, run on the CPU thread by thread (tests/simt/simt.h), and the harness for it.

Every program is built twice: with ASan and UBSan, and with race detection. What was built is kept
in build/simt under a hash of all it was built from.
"""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HARNESS, KERNELS = ROOT / "tests/simt", ROOT / "csrc/cuda"
BUILD = ROOT / "build/simt"
CXX = os.environ.get("CXX") or "g++"
FLAGS = ["-std=gnu++17", "-g1", "-fno-strict-aliasing", "-DBDP_EXT_SIMT"]
FLAGS += ["-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
# kind: flags of the harness, of the program, of the linker
KINDS = {
    "san": (["-O2", "-DSIMT_ASAN"], SANITIZE, SANITIZE),  # compiling is what takes time here
    "race": (["-O2"], ["-O1", "-fsanitize=thread"], []),  # not linked with it: see race.cpp
}
PROGRAMS = ("el2n", "update_voe_", "voe", "capped_topk", "node_sum")


def missing() -> str | None:
    """Why the kernels cannot be run here, or None."""
    if shutil.which(CXX) is None:
        return f"there is no {CXX}; install a C++ compiler"
    probe = "#include <boost/context/detail/fcontext.hpp>\nint main() {}\n"
    found = subprocess.run(
        [CXX, "-x", "c++", "-", "-lboost_context", "-o", os.devnull],
        input=probe,
        text=True,
        capture_output=True,
    )
    if found.returncode:
        return "Boost.Context is missing; `apt-get install libboost-context-dev`"
    return None


REASON = missing()
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))


def compiled(source: Path, flags: list[str], kernels: Path) -> Path:
    """The object of one file; compiled unless it stands there already."""
    command = [CXX, *FLAGS, *flags, f"-I{HARNESS}", f"-I{ROOT / 'csrc'}"]
    digest = hashlib.sha256(" ".join(command).encode())
    for path in sorted([source, *HARNESS.glob("*.h"), ROOT / "csrc/ops.h", *kernels.glob("*.*h")]):
        digest.update(path.read_bytes())
    target = BUILD / f"{source.stem}-{digest.hexdigest()[:16]}.o"
    if not target.exists():
        BUILD.mkdir(parents=True, exist_ok=True)
        new = target.with_suffix(f".{os.getpid()}.o")
        subprocess.run([*command, f"-I{kernels}", "-c", source, "-o", new], check=True)
        new.replace(target)
    return target


def built(source: Path, kind: str, kernels: Path = KERNELS, extra: tuple[str, ...] = ()) -> Path:
    harness_flags, flags, link_flags = KINDS[kind]
    objects = [
        compiled(source, [*flags, *extra], kernels),
        compiled(HARNESS / "simt.cpp", harness_flags, KERNELS),
        compiled(HARNESS / "race.cpp", [*harness_flags, "-fno-builtin"], KERNELS),
    ]
    program = objects[0].with_suffix("")
    if not program.exists() or any(o.stat().st_mtime > program.stat().st_mtime for o in objects):
        new = program.with_suffix(f".{os.getpid()}")
        subprocess.run([CXX, *link_flags, *objects, "-lboost_context", "-o", new], check=True)
        new.replace(program)
    return program


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The fibers' stacks are not the ones ASan made its fake frames for.
    environment = os.environ | {"ASAN_OPTIONS": "detect_stack_use_after_return=0:detect_leaks=0"}
    return subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_kernels_match_the_oracle(program: str, kind: str) -> None:
    result = run(built(HARNESS / f"test_{program}.cpp", kind))
    assert result.returncode == 0, result.stderr
    assert "launches" in result.stdout


# ---- the harness itself: it must find a bug that is there ----

PLANTED = {
    "missing_barrier": ("race", "race: thread|has not written"),
    "missing_syncwarp": ("race", "race: thread|has not written"),
    "row_tail": ("san", "heap-buffer-overflow"),
    "missing_mask": ("san", "which is inactive"),
    "own_mask": ("san", "leaves itself out"),
    "source_outside": ("san", "which mask 0x0000ffff leaves out"),
    "divergent_barrier": ("san", "divergent barrier"),
    "stuck_barrier": ("san", "stuck barrier"),
    "stuck_vote": ("san", "stuck"),
    "unwritten": ("race", "has not written"),
    "missing_fence": ("race", "race between blocks"),
    "blocks_race": ("race", "race"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_harness_passes_clean_kernels(kind: str) -> None:
    result = run(built(HARNESS / "planted.cpp", kind), "clean")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("bug", PLANTED)
def test_harness_finds_a_planted_bug(bug: str) -> None:
    kind, message = PLANTED[bug]
    result = run(built(HARNESS / "planted.cpp", kind), bug)
    assert result.returncode != 0, f"{bug} was not found"
    assert re.search(message, result.stderr), result.stderr


# ... and in the real kernels: file, what is there, what is put in its place, program, kind, message
MUTANTS = {
    "no barrier before the warps' sums are merged": (
        "el2n.cuh",
        "if (lane == 0) of_warp[warp] = rivals;\n  __syncthreads();",
        "if (lane == 0) of_warp[warp] = rivals;",
        ("el2n", "race", "race: thread|has not written"),
    ),
    "no fence before a block of a row reports": (
        "el2n.cuh",
        "      __threadfence();\n      last = atomicAdd",
        "      last = atomicAdd",
        ("el2n", "race", "race between blocks"),
    ),
    "one logit past the row's end": (
        "el2n_row.cuh",
        "c >= 0 && c < classes ?",
        "c >= 0 && c <= classes ?",
        ("el2n", "san", ""),  # ASan's, or a score that is off, whichever comes first
    ),
    "lanes past the last row leave before the shuffles": (
        "el2n.cuh",
        "const bool real = row < rows;",
        "if (row >= rows) return;\n  const bool real = true;",
        ("el2n", "race", "which is inactive"),
    ),
    "lanes without a sample skip the vote": (
        "update_voe_.cuh",
        "!superseded(ring) && sample >= 0;",
        "sample >= 0 && !superseded(ring);",
        ("update_voe_", "race", "stuck"),
    ),
    "a tile's counts are read too early": (
        "group_by_class.cuh",
        "bins[c] = atomicAdd(next + c, bins[c]);\n      }\n      __syncthreads();",
        "bins[c] = atomicAdd(next + c, bins[c]);\n      }",
        ("capped_topk", "race", "race: thread"),
    ),
    "half of a column is added before the other half is there": (
        "node_sum.cuh",
        "    __syncthreads();\n    left = half;",
        "    left = half;",
        ("node_sum", "race", "race: thread"),
    ),
    "ties go to the higher index": (
        "order.cuh",
        "static_cast<uint64_t>(key) << 32) | index",
        "static_cast<uint64_t>(key) << 32) | (0xffffffffu - index)",
        ("capped_topk", "race", "sample"),
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_harness_finds_a_bug_in_the_real_kernels(name: str, tmp_path: Path) -> None:
    file, right, wrong, (program, kind, message) = MUTANTS[name]
    kernels = tmp_path / "cuda"
    shutil.copytree(KERNELS, kernels)
    text = (kernels / file).read_text()
    assert text.count(right) == 1, f"{file} has changed: plant {name!r} anew"
    (kernels / file).write_text(text.replace(right, wrong))
    result = run(
        built(HARNESS / f"test_{program}.cpp", kind, kernels, ("-O0", "-DSIMT_FLOAT_ONLY"))
    )
    assert result.returncode != 0, f"not found: {name}"
    assert re.search(message, result.stderr), result.stderr
