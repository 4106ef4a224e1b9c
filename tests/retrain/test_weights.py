"""Weights in a file: read again, and refused when they are not ours."""

import pytest
import safetensors.torch
import torch

from bdp_ext.errors import UserError
from bdp_ext.retrain.loop import read_batch
from bdp_ext.retrain.run import WEIGHTS, folder
from bdp_ext.retrain.weights import load_network

from .common import CONFIGS, make


def test_reloaded_network_gives_the_same_logits(trained):
    out = trained("darts")
    job = make(CONFIGS["darts"])
    job.load_state_dict(folder(out).saved_state(resume=True)["retraining"])
    images, _ = read_batch(job.test, torch.arange(64))
    with torch.no_grad():
        assert torch.equal(load_network(out / WEIGHTS)(images), job.network.eval()(images))


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
