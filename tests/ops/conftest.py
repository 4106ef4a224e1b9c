"""What the tests of the operations share."""

from collections.abc import Iterator

import pytest
import torch

import bdp_ext
from bdp_ext.ops import libraries


@pytest.fixture(params=["reference", "avx512", "avx2", "plain"])
def implementation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Runs a test of the operations on CPU tensors once with each implementation of them: plain
    torch, and C++ with every instruction set that it has code for."""
    name: str = request.param
    if name == "reference":
        with bdp_ext.backend(name):
            yield name
        return
    if not libraries.loaded("cpu"):
        pytest.skip(libraries.reason("cpu"))
    from bdp_ext import _C

    try:
        _C.use_cpu_path(name)
    except ValueError as error:
        pytest.skip(str(error))
    with bdp_ext.backend("cpu"):
        yield name
    _C.use_cpu_path(libraries.details("cpu")["cpu_path"])


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Runs a test with one and with two threads of torch."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)
