"""The compiled libraries: what build_info() says of them, who owns an operation, one that fails."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import build_libraries
import pytest
import torch

import bdp_ext
from bdp_ext.ops import libraries, register


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
    owner = "compiled" if info["libraries"]["cpu"]["loaded"] else "reference"
    assert all(owners["cpu"] == owner for owners in info["operations"].values())


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


def test_the_environment_chooses_the_instruction_set() -> None:
    code = "import bdp_ext; print(bdp_ext.build_info()['libraries']['cpu'].get('cpu_path'))"
    for asked in ("plain", "avx1024"):
        found = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "BDP_EXT_ISA": asked},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        best = bdp_ext.build_info()["libraries"]["cpu"].get("cpu_path")
        assert found == ("plain" if asked == "plain" and best else str(best))


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
