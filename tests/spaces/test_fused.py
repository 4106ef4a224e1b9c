"""The fused supernet against the readable one: the same loss and gradients."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bdp_ext import ops
from bdp_ext.methods import METHODS
from bdp_ext.spaces import SPACES, Supernet
from bdp_ext.spaces.operations import DilatedConv, batch_norm
from bdp_ext.spaces.separable import convolve

CASES = [
    ("nas-bench-201", "darts", {"channels": 8, "cells": 2}),
    ("nas-bench-201", "pc-darts", {"channels": 16, "cells": 1}),
    ("darts", "darts", {"channels": 4, "cells": 3}),
    ("darts", "pc-darts", {"channels": 16, "cells": 3}),
    ("darts", "p-darts", {"channels": 4, "cells": 3, "past": [[torch.eye(14, 8)] * 2]}),
]


def make(space: str, method: str, options: dict) -> Supernet:
    torch.manual_seed(0)
    supernet = METHODS[method]().supernet(SPACES[space], classes=5, **options).double()
    for module in supernet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # it draws in another order
    with torch.no_grad():
        for alpha in supernet.alphas():
            alpha.copy_(torch.randn_like(alpha))
    return supernet.to(memory_format=torch.channels_last)


def loss_and_gradients(supernet: Supernet, create_graph: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64, generator=generator)
    loss = cross_entropy(supernet(images), torch.tensor([0, 3, 4]))
    parameters = list(supernet.parameters())
    gradients = torch.autograd.grad(
        loss, parameters, create_graph=create_graph, materialize_grads=True
    )
    if create_graph:
        total = sum(gradient.square().sum() for gradient in gradients)
        gradients = torch.autograd.grad(total, parameters, materialize_grads=True)
    return [loss.detach(), *gradients]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    largest = max(float(gradient.norm()) for gradient in expected[1:])
    for one, other in zip(found, expected, strict=True):
        scale = max(float(other.norm()), 1e-3 * largest)
        assert float((one - other).norm()) <= 1e-12 * scale


@pytest.mark.parametrize(("space", "method", "options"), CASES)
def test_loss_and_gradients_are_the_readable_ones(space, method, options):
    supernet = make(space, method, options)
    expected = loss_and_gradients(supernet)
    supernet.fused = True
    assert_same(loss_and_gradients(supernet), expected)
    supernet.checkpoint_cells = True
    assert_same(loss_and_gradients(supernet), expected)


@pytest.mark.parametrize(("space", "method", "options"), CASES[::2])
def test_second_derivatives_are_the_readable_ones(space, method, options):
    supernet = make(space, method, options)
    expected = loss_and_gradients(supernet, create_graph=True)
    supernet.fused = True
    found = loss_and_gradients(supernet, create_graph=True)
    largest = max(float(gradient.norm()) for gradient in expected[1:])
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).norm()) <= 1e-9 * max(float(other.norm()), 1e-3 * largest)


@pytest.mark.parametrize(("space", "method", "options"), CASES)
def test_compiled_kernels_agree_to_float32(space, method, options):
    supernet = make(space, method, options)
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    expected = supernet(images)
    supernet.fused = True
    found = supernet.float()(images.float().contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected.float(), rtol=2e-3, atol=2e-3)


def test_unknown_operations_are_computed_as_they_are():
    class Negative(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return -x

    supernet = make("nas-bench-201", "darts", {"channels": 4, "cells": 1})
    for edge in supernet.stages[0].edges:
        edge.operations[3] = nn.Sequential(Negative(), batch_norm(4, affine=False))
    supernet.double()
    expected = loss_and_gradients(supernet)
    supernet.fused = True
    assert_same(loss_and_gradients(supernet), expected)


class Wide(nn.Module):
    """In float32 whatever comes, as some of torch's operations under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        return x.float()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["darts", "pc-darts"])
def test_a_node_adds_up_half_precision_where_its_convolutions_give_that(method, dtype, monkeypatch):
    supernet = make("nas-bench-201", method, {"channels": 32, "cells": 1}).float()
    edge = supernet.stages[0].edges[2]
    (edge.mixed if method == "pc-darts" else edge).operations[1] = Wide()
    if method == "pc-darts":
        edge.bypass = Wide()
    images = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    expected = supernet.double()(images.double())
    supernet.float().fused = True
    added, node_sum = [], ops.node_sum

    def note(inputs: list[Tensor], *rest: object) -> Tensor:
        added.append({x.dtype for x in inputs})
        return node_sum(inputs, *rest)

    monkeypatch.setattr(ops, "node_sum", note)
    with torch.autocast("cpu", dtype=dtype):
        found = supernet(images)
    assert added
    assert all(dtypes == {dtype} for dtypes in added)
    error = float((found - expected).detach().norm() / expected.detach().norm())
    assert error <= 4 * torch.finfo(dtype).eps  # 1.3 to 1.8 were seen


@pytest.mark.parametrize("space", ["nas-bench-201", "darts"])
def test_nodes_save_memory(space):
    """Bytes that autograd keeps for the backward pass of one batch."""
    supernet = make(space, "darts", {"channels": 8, "cells": 3}).float()
    kept = []
    for fused, checkpoint in ((False, False), (True, False), (True, True)):
        supernet.fused, supernet.checkpoint_cells = fused, checkpoint
        storages = {}

        def note(x: Tensor, storages: dict = storages) -> Tensor:
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = supernet(torch.randn(4, 3, 16, 16)).sum()
        kept.append(sum(storages.values()))
        del loss
    assert kept[0] > 1.3 * kept[1] > 3 * kept[2]


@pytest.mark.parametrize("needs", [(1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 1, 1)])
@pytest.mark.parametrize("norm_relu", [False, True])
def test_half_a_separable_convolution_gives_the_gradients_that_are_needed(needs, norm_relu):
    torch.manual_seed(0)
    half = DilatedConv(4, 3, 1, 2).double()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    arguments = [x, *half.kernels]
    for argument, need in zip(arguments, needs, strict=True):
        argument.requires_grad_(bool(need))
    wanted = [argument for argument in arguments if argument.requires_grad]
    plain = half.convolve(batch_norm(4, affine=False).double()(x).relu() if norm_relu else x)
    grad = torch.randn_like(plain)
    expected = torch.autograd.grad(plain, wanted, grad)
    found = torch.autograd.grad(convolve(half, x, norm_relu), wanted, grad)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
