"""`bdp_ext.prune` in loops written in the manner of the public ones, each run as a user's script.

Every loop says itself which forward pass counts for which samples; `dropin/common.py` recomputes
the scores and the samples that must be left, and compares both after every epoch.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

LOOPS = Path(__file__).parent / "dropin"
EXTRAS = {"lightning_fit": "lightning", "accelerate_loop": "accelerate"}
NAMES = sorted(p.stem for p in LOOPS.glob("*.py") if p.stem != "common")


@pytest.mark.parametrize("name", NAMES)
def test_loop(name):
    if name in EXTRAS and find_spec(EXTRAS[name]) is None:
        pytest.skip(f"needs bdp_ext[{EXTRAS[name]}]")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-W", "error", f"{name}.py"],
        cwd=LOOPS,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "scored" in run.stdout
