"""`bdp_ext.prune` in loops written in the manner of the public ones.

Every loop says itself which forward pass counts for which samples; `loops/common.py` recomputes
the scores and the samples that must be left, and compares both after every epoch.
"""

import os
import random
import runpy
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

LOOPS = Path(__file__).parent / "loops"
OWN_PROCESS = {
    "accelerate_loop": "accelerate",  # keeps its state in the process
    "lightning_fit": "lightning",  # changes warnings and loggers
    "two_ranks": None,  # starts one for each rank
}
"""Loops that need a process of their own, and what must be installed."""
NAMES = sorted({path.stem for path in LOOPS.glob("*.py")} - {"common", *OWN_PROCESS})


@pytest.fixture
def restored():
    """Threads and random numbers as they were."""
    threads, state = torch.get_num_threads(), (torch.get_rng_state(), random.getstate())
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_rng_state(state[0])
    random.setstate(state[1])


@pytest.mark.parametrize("name", NAMES)
def test_loop(name, restored, capsys):
    runpy.run_path(str(LOOPS / f"{name}.py"), run_name="__main__")
    assert "scored" in capsys.readouterr().out


@pytest.mark.parametrize("name", OWN_PROCESS)
def test_loop_in_its_own_process(name):
    extra = OWN_PROCESS[name]
    if extra and find_spec(extra) is None:
        pytest.skip(f"needs bdp_ext[{extra}]")
    run = subprocess.run(
        [sys.executable, "-W", "error", f"{name}.py"],
        cwd=LOOPS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "scored" in run.stdout
