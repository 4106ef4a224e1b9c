"""One whole first-order search step, an alpha step and a weight step, of different supernets; and
of their convolutions alone."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import peers
import torch
from peers import Net
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from bdp_ext.methods import METHODS, Batch, Step, frozen
from bdp_ext.spaces import SPACES

CLASSES = 10
CLIP = 5.0
Run = Callable[[], object]


class Images:
    """A training and a validation batch."""

    def __init__(self, batch: int, size: int = 32) -> None:
        generator = torch.Generator().manual_seed(0)
        self.batches = [
            Batch(
                torch.arange(batch),
                torch.randn(batch, 3, size, size, generator=generator),
                torch.randint(CLASSES, (batch,), generator=generator),
            )
            for _ in range(2)
        ]

    def to(self, layout: torch.memory_format) -> None:
        for batch in self.batches:
            batch.images.data = batch.images.contiguous(memory_format=layout)


def optimizers(weights: list[Tensor], alphas: list[Tensor]) -> tuple[torch.optim.Optimizer, ...]:
    return (
        torch.optim.Adam(alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3),
        torch.optim.SGD(weights, 0.025, momentum=0.9, weight_decay=3e-4),
    )


def our_step(space: str, method: str, channels: int, cells: int, batch: int, fused: bool) -> Run:
    """As `Search.step` does it."""
    torch.manual_seed(0)
    how = METHODS[method]()
    net = how.supernet(SPACES[space], channels=channels, cells=cells, classes=CLASSES)
    net.to(memory_format=torch.channels_last)
    net.fused = fused
    images = Images(batch)
    images.to(torch.channels_last)
    train, valid = images.batches
    step = Step(
        net,
        train,
        epoch=0,
        epochs=50,
        lr=0.025,
        autocast=torch.autocast("cpu", enabled=False),
        scale=lambda loss: loss,
    )
    weights, alphas = net.weights(), net.alphas()
    adam, sgd = optimizers(weights, alphas)

    def update(optimizer, parameters, gradients, clip=False) -> None:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if clip:
            nn.utils.clip_grad_norm_(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad()

    def run() -> None:
        gradients, _ = how.architecture_gradients(step, valid)
        update(adam, alphas, gradients)
        with frozen(alphas):
            loss = how.weights_loss(step).value
            gradients = torch.autograd.grad(loss, weights)
        update(sgd, weights, gradients, clip=True)

    return run


def peer_step(net: Net, batch: int, channels_last: bool) -> Run:
    """As their search scripts do it: `backward()` for all parameters, twice."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net.network.to(memory_format=layout)
    images = Images(batch)
    images.to(layout)
    train, valid = images.batches
    adam, sgd = optimizers(net.weights, net.alphas)

    def run() -> None:
        adam.zero_grad()
        cross_entropy(net.logits(valid.images), valid.target).backward()
        adam.step()
        sgd.zero_grad()
        cross_entropy(net.logits(train.images), train.target).backward()
        nn.utils.clip_grad_norm_(net.weights, CLIP)
        sgd.step()

    return run


def convolutions(space: str, method: str, channels: int, cells: int, batch: int) -> Run:
    """The convolutions of such a step alone, through torch, in channels_last: each forward twice,
    the gradient of its input twice and that of its weight once."""
    torch.manual_seed(0)
    net = METHODS[method]().supernet(SPACES[space], channels=channels, cells=cells, classes=CLASSES)
    net.to(memory_format=torch.channels_last)  # as it is: not fused, it calls its modules
    found: list[tuple[nn.Conv2d, tuple[int, ...], bool]] = []
    first = {id(module) for module in net.stem.modules()}

    def note(module: nn.Conv2d, arguments: tuple[Tensor]) -> None:
        found.append((module, tuple(arguments[0].shape), id(module) not in first))

    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_pre_hook(note)
    net(torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last))

    inputs: dict[tuple[int, ...], Tensor] = {}
    for _, shape, _ in found:
        if shape not in inputs:
            inputs[shape] = torch.randn(shape).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        for module, shape, needs_input in found:
            x, weight = inputs[shape], module.weight.detach()
            geometry = (module.stride, module.padding, module.dilation)
            for masks in ([needs_input, False, False], [needs_input, True, False]):
                y = conv2d(x, weight, None, *geometry, module.groups)
                if any(masks):
                    torch.ops.aten.convolution_backward(
                        y, x, weight, None, *geometry, False, [0, 0], module.groups, masks
                    )

    return run


def peak(name: str, *size: object) -> float:
    """MB that a step of this name takes beyond what the process had before, in one of its own."""
    code = f"import _supernets; print(_supernets.own_peak({name!r}, *{size!r}))"
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, check=True, capture_output=True, text=True
    )
    return float(done.stdout.split()[-1])


def own_peak(name: str, *size: object) -> float:
    """`peak` of this process."""
    torch.set_num_threads(1)
    step = all_steps(*size, only=name)[name]
    before = high_water()
    step()
    return high_water() - before


def high_water() -> float:
    """The most memory that this process has had, MB. (`getrusage` would begin with what its parent
    had.)"""
    status = Path("/proc/self/status").read_text()
    return float(status.split("VmHWM:")[1].split()[0]) / 1024


def all_steps(
    space: str, method: str, channels: int, cells: int, batch: int, only: str | None = None
) -> dict[str, Run]:
    """By name, ours last; or only one of them."""
    size = (space, method, channels, cells)
    there = peers.find(*size) is not None
    makers: dict[str, Callable[[], Run]] = {
        "peer": lambda: peer_step(peers.find(*size), batch, channels_last=False),
        "peer, channels_last": lambda: peer_step(peers.find(*size), batch, channels_last=True),
        "readable": lambda: our_step(*size, batch, fused=False),
        "convolutions": lambda: convolutions(*size, batch),
        "cpu": lambda: our_step(*size, batch, fused=True),
    }
    return {
        name: make()
        for name, make in makers.items()
        if only in (None, name) and (there or not name.startswith("peer"))
    }
