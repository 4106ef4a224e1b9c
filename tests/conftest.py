"""What the tests share."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import bdp_ext
from bdp_ext import cli


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


@pytest.fixture(scope="session")
def cifar(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Path:
    """A folder of 512 training and 60 test images of CIFAR-10."""
    folder = tmp_path_factory.mktemp("cifar")
    unpack = [sys.executable, data_folder / "unpack.py", folder, "--train", "512", "--test", "60"]
    subprocess.run(unpack, check=True, capture_output=True)
    return folder


@pytest.fixture
def bdp(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Runs the command line in this process: its exit code, what it printed, and its errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["bdp", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as error:
            code = int(error.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    threads = torch.get_num_threads()
    yield call
    torch.set_num_threads(threads)
