"""TensorFlow's RMSprop."""

import torch

from bdp_ext.retrain.rmsprop import TensorFlowRMSprop


def test_tensorflow_rmsprop_is_its_equations():
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(5, dtype=torch.float64))
    unused = torch.nn.Parameter(torch.ones(2))
    optimizer = TensorFlowRMSprop([weight, unused], 0.1, momentum=0.8, weight_decay=0.01)
    w, v, m = weight.detach().clone(), 1.0, 0.0
    for lr in (0.1, 0.1, 0.02):
        gradient = torch.randn(5, dtype=torch.float64)
        weight.grad = gradient.clone()
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        g = gradient + 0.01 * w
        v = 0.9 * v + 0.1 * g**2
        m = 0.8 * m + lr * g / (v + 1e-3).sqrt()
        w = w - m
    torch.testing.assert_close(weight.detach(), w, rtol=1e-12, atol=1e-12)
    assert torch.equal(unused, torch.ones(2))
