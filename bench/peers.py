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


def folder() -> Path | None:
    """Where the checkouts are, if anywhere."""
    return Path(os.environ["PEERS"]).expanduser() if os.environ.get("PEERS") else None


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


def find(space: str, method: str, channels: int, cells: int) -> Net | None:
    """The peer of a supernet of ours, in its checkout; None where there is none."""
    root = folder()
    if root is None:
        return None
    if space == "nas-bench-201" and method == "darts" and (root / "AutoDL-Projects").is_dir():
        return autodl(root / "AutoDL-Projects", channels, cells)
    if space == "nas-bench-201" and method == "beta-darts" and (root / "Beta-DARTS").is_dir():
        return beta_darts(root / "Beta-DARTS", channels, cells)
    if space == "darts" and method == "darts" and (root / "darts").is_dir():
        return quark0(root / "darts" / "cnn", channels, cells)
    if space == "darts" and method == "pc-darts" and (root / "PC-DARTS").is_dir():
        return quark0(root / "PC-DARTS", channels, cells)
    return None
