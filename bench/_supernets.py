"""Whole first-order search steps, an alpha step and a weight step, of our supernets and of
peers'."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import peers
import torch
from peers import Net
from torch import nn
from torch.nn.functional import cross_entropy

from bdp_ext.data import MemorySet
from bdp_ext.data.augment import Augmentation
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search

CLASSES = 10
STEPS = 64  # of an epoch of ours
Run = Callable[[], object]
Size = tuple[str, str, int, int, int]
"""Space, method, channels, cells and batch."""


def title(size: Size) -> str:
    space, method, channels, cells, batch = size
    return f"{space} {method}, C={channels}, {cells} cells, batch {batch}"


def our_step(size: Size, fused: bool = True) -> Run:
    """Of an unpruned search on random images of CIFAR's size."""
    space, method, channels, cells, batch = size
    config = SearchConfig.of(
        space=space,
        method=method,
        channels=channels,
        cells=cells,
        batch_size=batch,
        alpha_start=0,
        fused=fused,
        bdp=False,
        device="cpu",
    )
    labels = torch.arange(2 * STEPS * batch) % CLASSES
    images = torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8)
    classes = tuple(map(str, range(CLASSES)))
    half = (0.5, 0.5, 0.5)
    search = Search(config, MemorySet(labels, classes, half, half, images, Augmentation(4, True)))

    def run() -> None:
        search.step()
        if search.epoch_done:
            search.end_epoch()

    return run


def peer_step(net: Net, batch: int, layout: torch.memory_format) -> Run:
    """As their search scripts do it: `backward()` for all parameters, twice."""
    net.network.to(memory_format=layout)
    train, valid = (
        (torch.randn(batch, 3, 32, 32).to(memory_format=layout), torch.arange(batch) % CLASSES)
        for _ in range(2)
    )
    adam = torch.optim.Adam(net.alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    sgd = torch.optim.SGD(net.weights, 0.025, momentum=0.9, weight_decay=3e-4)

    def run() -> None:
        for optimizer, (images, target) in ((adam, valid), (sgd, train)):
            optimizer.zero_grad()
            cross_entropy(net.logits(images), target).backward()
            if optimizer is sgd:
                nn.utils.clip_grad_norm_(net.weights, 5.0)
            optimizer.step()

    return run


def steps(size: Size) -> dict[str, Callable[[], Run]]:
    """What makes each step, by name, ours last."""
    makers: dict[str, Callable[[], Run]] = {}
    find, batch = peers.find(*size[:2]), size[4]
    if find:
        for name, layout in (
            ("peer", torch.contiguous_format),
            ("peer, channels_last", torch.channels_last),
        ):
            makers[name] = lambda layout=layout: peer_step(find(*size[2:4]), batch, layout)
    makers["readable"] = lambda: our_step(size, fused=False)
    makers["cpu"] = lambda: our_step(size)
    return makers


def peak(name: str, size: Size) -> str:
    """MB that a step of this name takes beyond what the process had before, in one of its own."""
    code = f"import _supernets as s; print(s.own_peak({name!r}, {size!r}))"
    here = Path(__file__).parent
    return subprocess.check_output([sys.executable, "-c", code], cwd=here, text=True).split()[-1]


def own_peak(name: str, size: Size) -> int:
    """`peak` of this process."""
    torch.set_num_threads(1)
    step = steps(size)[name]()
    before = high_water()
    step()
    return high_water() - before


def high_water() -> int:
    """The most memory that this process has had, MB. (`getrusage` would begin with what its parent
    had.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) // 1024
