"""Hooks of autograd's nodes, without torch's handle of them."""

import pytest
import torch
from torch import nn

from bdp_ext.dropin import _native
from bdp_ext.ops import libraries

pytestmark = pytest.mark.skipif(not libraries.loaded("cpu"), reason="needs the compiled library")


def test_a_hook_of_a_node_leaves_the_users_alone():
    logits = 2 * torch.ones(3, requires_grad=True)
    seen = []
    handle = logits.register_hook(lambda gradient: seen.append("user"))
    assert _native.hook_node(logits, lambda gradient: seen.append("ours"))
    logits.sum().backward(retain_graph=True)
    assert sorted(seen) == ["ours", "user"]
    handle.remove()
    logits.sum().backward()
    assert sorted(seen) == ["ours", "user"]  # once is enough
    assert logits._backward_hooks is None or not logits._backward_hooks


def test_more_graphs_than_there_are_carriers():
    kept = [2 * torch.ones(3, requires_grad=True) for _ in range(100)]
    seen = []
    hooked = [_native.hook_node(each, seen.append) for each in kept]
    assert hooked[:20] == [True] * 20
    assert hooked[-20:] == [False] * 20
    torch.cat(kept).sum().backward()
    assert len(seen) == sum(hooked)
    del kept
    assert _native.hook_node(2 * torch.ones(3, requires_grad=True), print)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2),
        torch.zeros(2, requires_grad=True),
        (2 * torch.zeros(4, requires_grad=True)).chunk(2)[1],
        nn.Parameter(torch.zeros(2)),
        "no tensor",
    ],
    ids=["plain", "leaf", "second output", "subclass", "text"],
)
def test_a_hook_of_a_node_cannot_hang_there(tensor):
    assert not _native.hook_node(tensor, print)


def test_a_wrong_call_is_an_error():
    with pytest.raises(TypeError, match="hook_node"):
        _native.hook_node(torch.zeros(1))
