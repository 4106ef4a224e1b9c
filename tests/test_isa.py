"""The C++ version computes the same with every instruction set it has code for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bdp_ext

OPERATIONS = [
    "el2n",
    "voe",
    "update_voe",
    "capped_topk",
    "depthwise_conv2d",
    "conv3x3",
    "node_sum",
    "norm_relu",
    "pool3x3",
]


@pytest.mark.parametrize("isa", ["plain", "avx2"])
def test_older_instruction_sets(isa: str) -> None:
    """The operations' own tests again, in a process that is told to use less than this one does.

    A processor that lacks the instruction set falls back to what it has.
    """
    try:
        with bdp_ext.backend("cpu"):
            pass
    except RuntimeError as error:
        pytest.skip(str(error))
    folder = Path(__file__).parent
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        + ["-k", "cpu and not long_labels and not larger_random"]
        + [str(folder / f"test_{operation}.py") for operation in OPERATIONS],
        env={**os.environ, "BDP_EXT_ISA": isa},
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]
