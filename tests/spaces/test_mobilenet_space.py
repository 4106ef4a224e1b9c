"""The MobileNet-like space: its supernet, the networks of its architectures and what they cost."""

import random

import pytest
import torch
from torch import nn

from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS, Batch, Step
from bdp_ext.methods.darts import shifted
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.cost import multiply_adds, parameters
from bdp_ext.spaces.mobilenet import MB_CONVS, SKIP, Layer, MobileNetSpace
from bdp_ext.spaces.mobilenet_network import (
    FoundLayer,
    MBConv,
    MobileNetNetwork,
    Skeleton,
    Slot,
    format_layers,
    parse_layers,
)


def random_architecture(seed: int, cells: int) -> str:
    choose = random.Random(seed)
    first, repeat = list(MB_CONVS), [*MB_CONVS, SKIP]
    lengths = [cells] * 5 + [1]
    return format_layers(
        [[choose.choice(repeat if i else first) for i in range(length)] for length in lengths]
    )


def test_skeleton_is_the_published_one():
    skeleton = Skeleton.of(channels=32, cells=4)
    assert (skeleton.stem, skeleton.first, skeleton.head) == (32, 16, 1280)
    assert len(skeleton.slots) == 21
    assert [slot.outputs for slot in skeleton.slots[::4]] == [24, 40, 80, 96, 192, 320]
    assert [slot.stride for slot in skeleton.slots[::4]] == [2, 2, 2, 1, 2, 1]
    for slot in skeleton.slots:  # at these widths a layer repeats where its shapes stay
        assert slot.repeats == (slot.stride == 1 and slot.inputs == slot.outputs)
    # Widths go with the channels, in multiples of eight.
    skeleton = Skeleton.of(channels=8, cells=1)
    assert (skeleton.stem, skeleton.first, skeleton.head) == (8, 8, 320)
    assert [slot.outputs for slot in skeleton.slots] == [8, 8, 24, 24, 48, 80]
    skeleton = Skeleton.of(channels=48, cells=2)
    assert [stage[0].outputs for stage in skeleton.stages] == [40, 64, 120, 144, 288, 480]


def test_mobilenet_v2_from_these_parts_is_torchvisions():
    """MobileNetV2 has other widths and depths, but the same stem, layers and head."""
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    theirs = torchvision.models.mobilenet_v2().eval()
    for norm in theirs.modules():  # so that the running statistics count too
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_mean, -0.5, 0.5)
            nn.init.uniform_(norm.running_var, 0.5, 2)
    stages, inputs = [], 16
    for outputs, depth, stride in (
        *[(24, 2, 2), (32, 3, 2), (64, 4, 2)],
        *[(96, 3, 1), (160, 3, 2), (320, 1, 1)],
    ):
        repeats = [Slot(outputs, outputs, 1, repeats=True)] * (depth - 1)
        stages.append((Slot(inputs, outputs, stride, repeats=False), *repeats))
        inputs = outputs
    skeleton = Skeleton(32, 16, 1280, 2, tuple(stages))

    class MobileNetV2(MobileNetNetwork):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.drop_path = 0.0
            self.stem = skeleton.make_stem()
            self.layers = nn.ModuleList(FoundLayer("k3e6", slot) for slot in skeleton.slots)
            self.head = skeleton.make_head()
            self.classifier = nn.Linear(1280, 1000)

    ours = MobileNetV2().eval()
    numbers = theirs.state_dict().values()
    ours.load_state_dict(dict(zip(ours.state_dict(), numbers, strict=True)))
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-5, atol=1e-6)
    assert parameters(ours) == parameters(theirs) == 3_504_872
    assert multiply_adds(ours, 224) == multiply_adds(theirs, 224)
    assert round(multiply_adds(ours, 224) / 1e6, 1) == 300.8


@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("expansion", [3, 6])
def test_an_mb_conv_has_the_parameters_of_its_formula(kernel, expansion):
    hidden = 24 * expansion
    weights = 24 * hidden + kernel**2 * hidden + hidden * 40
    assert parameters(MBConv(24, 40, kernel, expansion, 2)) == weights + 2 * (2 * hidden + 40)


def test_a_layer_is_the_mix_of_residual_mb_convs_and_the_identity():
    torch.manual_seed(0)
    layer = Layer(Slot(8, 8, 1, repeats=True)).double()
    x = torch.randn(3, 8, 6, 6, dtype=torch.float64)
    weights = torch.randn(7, dtype=torch.float64).softmax(0)
    residual = [x + mb_conv(x) for mb_conv in layer.mixed.operations[:6]]
    expected = sum(w * y for w, y in zip(weights, [*residual, x], strict=True))
    torch.testing.assert_close(layer(x, weights), expected, rtol=1e-12, atol=1e-12)

    first = Layer(Slot(8, 16, 2, repeats=False)).double()
    weights = torch.randn(6, dtype=torch.float64).softmax(0)
    expected = sum(w * op(x) for w, op in zip(weights, first.mixed.operations, strict=True))
    assert expected.shape == (3, 16, 3, 3)
    torch.testing.assert_close(first(x, weights), expected, rtol=1e-12, atol=1e-12)


def last_size(network: nn.Module, size: int) -> int:
    """Height and width before the pooling."""
    seen = []
    network.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    network(torch.randn(2, 3, size, size))
    return seen[0][3]


@pytest.mark.parametrize(
    ("size", "left"), [(2, 2), (8, 4), (28, 7), (32, 4), (64, 8), (128, 4), (224, 7)]
)
def test_images_keep_four_pixels_before_the_pooling(size, left):
    space = SPACES["mobilenet"].for_images(size)
    assert last_size(space.supernet(channels=8, cells=1, classes=3), size) == left
    if size >= 32:  # the network has the supernet's strides
        size_of = {"channels": 8, "cells": 1, "classes": 3, "imagenet": size >= 128}
        network = space.network(random_architecture(0, 1), **size_of, auxiliary=False)
        assert last_size(network, size) == left


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("size", [8, 32])
def test_every_parameter_gets_a_gradient(cells, size):
    torch.manual_seed(0)
    supernet = SPACES["mobilenet"].for_images(size).supernet(channels=8, cells=cells, classes=5)
    shapes = [tuple(alpha.shape) for alpha in supernet.alphas()]
    assert shapes == ([(5, 7), (6, 6)] if cells == 2 else [(6, 6)])
    logits = supernet(torch.randn(4, 3, size, size))
    assert logits.shape == (4, 5)
    gradients = torch.autograd.grad(logits.square().sum(), list(supernet.parameters()))
    for gradient in gradients:
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_second_order_goes_through_it():
    """The exact gradient of a row of alpha, against the unrolled loss itself."""
    torch.manual_seed(0)
    supernet = SPACES["mobilenet"].for_images(8).supernet(channels=8, cells=1, classes=3).double()
    batches = [
        Batch(torch.arange(6), torch.randn(6, 3, 8, 8).double(), torch.randint(3, (6,)))
        for _ in ("train", "valid")
    ]
    plain = torch.autocast("cpu", enabled=False)
    step = Step(supernet, batches[0], 0, 3, lr=0.05, autocast=plain, scale=lambda loss: loss)
    found, _ = METHODS["darts-2nd-exact"]().architecture_gradients(step, batches[1])

    def unrolled_loss() -> float:
        weights = supernet.weights()
        descent = torch.autograd.grad(step.loss(batches[0]).value, weights)
        with shifted(weights, descent, torch.tensor(-step.lr)):
            return step.loss(batches[1]).value.item()

    # A longer step crosses kinks of ReLU6, at which the weights' gradient jumps.
    h, row = 1e-7, supernet.alpha_first.data[0]
    for k in (0, 3):
        ends = []
        for sign in (1, -2):
            row[k] += sign * h
            ends.append(unrolled_loss())
        row[k] += h
        expected = (ends[0] - ends[1]) / (2 * h)
        assert found[0][0, k].item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("cells", [1, 3])
def test_one_hot_supernet_is_the_network_of_what_is_derived(cells):
    """With all the weight on one candidate a layer, and the same numbers, they compute the same."""
    torch.manual_seed(0)
    space = MobileNetSpace()
    architecture = random_architecture(5, cells)
    names = [name for stage in parse_layers(architecture) for name in stage]
    assert (SKIP in names) == (cells > 1)
    supernet = space.for_images(32).supernet(channels=8, cells=cells, classes=5).double()
    network = space.network(
        architecture, channels=8, cells=cells, classes=5, imagenet=False, auxiliary=False
    ).double()
    with torch.no_grad():
        rows = {alpha.shape[1]: iter(alpha) for alpha in supernet.alphas()}
        shared = [supernet.stem]
        for layer, name in zip(supernet.layers, names, strict=True):
            chosen = [*MB_CONVS, SKIP].index(name)
            next(rows[len(layer.mixed.operations)]).fill_(-1e9)[chosen] = 0
            shared.append(layer.mixed.operations[chosen])
        shared += [supernet.head, supernet.classifier]
        # Affine batch norms start as those without: what has more than one dimension is to copy.
        weights = [w for part in shared for w in part.parameters() if w.dim() > 1]
        found = [w for w in network.parameters() if w.dim() > 1]
        for weight, other in zip(found, weights, strict=True):
            weight.copy_(other)
        network.classifier.bias.copy_(supernet.classifier.bias)
    assert space.derive(supernet.alphas()) == {"architecture": architecture}
    images = torch.randn(3, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(network(images), supernet(images), rtol=1e-9, atol=1e-9)


def test_dropped_paths_are_those_of_layers_with_a_shortcut():
    torch.manual_seed(0)
    size = {"channels": 8, "cells": 2, "classes": 5, "imagenet": False, "auxiliary": False}
    images = torch.randn(8, 3, 8, 8)
    network = MobileNetSpace().network(random_architecture(1, 2), **size)
    network.drop_path = 0.5
    assert not torch.equal(network(images), network(images))
    assert torch.equal(network.eval()(images), network(images))
    skipping = "+".join(["k3e3|skip"] * 5 + ["k3e3"])
    network = MobileNetSpace().network(skipping, **size)
    network.drop_path = 0.5
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k3e6",
        "+".join(["k3e6|skip"] * 5),
        "+".join(["k3e6|skip"] * 6),
        "+".join(["skip|k3e6"] * 5 + ["k3e6"]),
        "+".join(["k3e6|k3e6"] * 4 + ["k3e6", "k3e6"]),
        "+".join(["k3e6|k9e6"] * 5 + ["k3e6"]),
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|",
    ],
)
def test_refuses_what_is_no_architecture(text):
    with pytest.raises(ValueError, match=r"is no MobileNet-like architecture: expected 6 stages"):
        parse_layers(text)


def test_refuses_another_depth_an_auxiliary_head_and_pc_darts():
    space = MobileNetSpace()
    size = {"channels": 8, "classes": 5, "imagenet": False}
    with pytest.raises(UserError, match="which has 2 layers a stage; give --cells 2"):
        space.network(random_architecture(0, 2), **size, cells=4, auxiliary=False)
    with pytest.raises(UserError, match="has no auxiliary head"):
        space.network(random_architecture(0, 2), **size, cells=2, auxiliary=True)
    with pytest.raises(UserError, match="PC-DARTS needs edges"):
        METHODS["pc-darts"]().supernet(space, channels=8, cells=1, classes=5)
