"""What the tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import bdp_ext


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real images and NAS-Bench-201 results, which lie beside the project."""
    folder = Path(os.environ.get("BDP_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set BDP_TEST_DATA)")
    return folder


@pytest.fixture(params=["reference", "cpu"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test of the operations on CPU tensors once with each implementation of them."""
    forced = bdp_ext.backend(request.param)
    try:
        forced.__enter__()
    except RuntimeError as error:
        pytest.skip(str(error))
    yield request.param
    forced.__exit__(None, None, None)


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs a test with one and with two threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
