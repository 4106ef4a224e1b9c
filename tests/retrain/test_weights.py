"""Weights in a file are refused when they are not ours; test_run.py reads ours again."""

import pytest
import safetensors.torch
import torch

from bdp_ext.errors import UserError
from bdp_ext.retrain.weights import load_network


def test_foreign_weights_are_refused(tmp_path):
    file = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="cannot be read"):
        load_network(file)
    file.write_bytes(b"foreign" * 10)
    with pytest.raises(UserError, match="holds no network"):
        load_network(file)
    safetensors.torch.save_file({"x": torch.ones(2)}, file)
    with pytest.raises(UserError, match="holds no network"):
        load_network(file)
