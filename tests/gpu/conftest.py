"""Tests of the GPU's path without a GPU."""

import shutil

import fake_gpu
import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    if shutil.which(fake_gpu.CXX) is None:
        pytest.skip(f"there is no {fake_gpu.CXX}; install a C++ compiler")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
