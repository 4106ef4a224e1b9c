"""What the tests share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real images and NAS-Bench-201 results, which lie beside the project."""
    folder = Path(os.environ.get("BDP_TEST_DATA", Path(__file__).parents[2] / "shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set BDP_TEST_DATA)")
    return folder
