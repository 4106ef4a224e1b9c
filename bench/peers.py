"""The supernets of public repositories, as they ship, from checkouts in the folder `PEERS`:

    PEERS=~/checkouts pytest bench/bench_search.py

knows `darts` (quark0/darts), `PC-DARTS`, `AutoDL-Projects` and `Beta-DARTS` there. Their
code runs as it is, but for `.cuda()`, which leaves a tensor on the CPU when there is no GPU, and
packages they import and do not need here.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Net:
    """A supernet of anybody's.

    Attributes:
        network: the module.
        weights, alphas: its parameters.
        logits: images -> [B, classes].
    """

    network: nn.Module
    weights: list[Tensor]
    alphas: list[Tensor]
    logits: Callable[[Tensor], Tensor]


@contextlib.contextmanager
def importing(path: Path) -> Iterator[None]:
    """Imports from a repository's folder, and forgets its modules: each has a `model_search`."""
    before, missing = set(sys.modules), {}
    for package in ("nats_bench", "nas_201_api", "tensorboardX", "graphviz", "yaml"):
        if importlib.util.find_spec(package) is None:
            missing[package] = MagicMock()
    stays = contextlib.nullcontext()
    if not torch.cuda.is_available():
        stays = patch.object(torch.Tensor, "cuda", lambda tensor, *_, **__: tensor)
    sys.path.insert(0, str(path))
    sys.modules.update(missing)
    try:
        with stays:
            yield
    finally:
        sys.path.remove(str(path))
        for name in set(sys.modules) - before:
            if name in missing or str(path) in str(getattr(sys.modules[name], "__file__", None)):
                del sys.modules[name]


def quark0(path: Path, channels: int, cells: int) -> Net:
    """Also PC-DARTS, which began as a copy of it."""
    with importing(path):
        module = importlib.import_module("model_search")
        network = module.Network(channels, 10, cells, nn.CrossEntropyLoss())
    return Net(network, list(network.parameters()), network.arch_parameters(), network)


def autodl(path: Path, channels: int, cells: int) -> Net:
    with importing(path):
        module = importlib.import_module("xautodl.models.cell_searchs.search_model_darts")
        operations = importlib.import_module("xautodl.models.cell_operations")
        space = operations.SearchSpaceNames["nas-bench-201"]
        network = module.TinyNetworkDarts(channels, cells, 4, 10, space, False, True)
    return Net(
        network, network.get_weights(), network.get_alphas(), lambda images: network(images)[1]
    )


def beta_darts(path: Path, channels: int, cells: int) -> Net:
    with importing(path):
        module = importlib.import_module("nasbench201.model")
        network = module.Network(channels, cells, 4, 10, nn.CrossEntropyLoss())
    forward = partial(network, updateType="weight")  # that with the softmax of alpha
    return Net(network, network.get_weights(), network.arch_parameters(), forward)


PEERS = {
    ("nas-bench-201", "darts"): ("AutoDL-Projects", autodl),
    ("nas-bench-201", "beta-darts"): ("Beta-DARTS", beta_darts),
    ("darts", "darts"): ("darts/cnn", quark0),
    ("darts", "pc-darts"): ("PC-DARTS", quark0),
}


def find(space: str, method: str) -> Callable[[int, int], Net] | None:
    """What makes the peer of a supernet of ours from channels and cells; None where there is no
    checkout of it."""
    folder, make = PEERS.get((space, method), ("", None))
    path = Path(os.environ.get("PEERS", "")).expanduser() / folder
    if make is None or "PEERS" not in os.environ or not path.is_dir():
        return None
    return partial(make, path)
