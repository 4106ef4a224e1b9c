"""What the tests of the experiments need."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def nb201(data_folder) -> Path:
    return data_folder / "nb201.csv.gz"
