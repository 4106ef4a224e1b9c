"""Runs an old GPU repository on a current PyTorch without a GPU; `check_repositories.py` puts this
file into the repository's Python path as `sitecustomize.py`. It changes that process only.

- `.cuda()` of a tensor makes a copy, as on a GPU (so that batches must be known again by their
  labels), and of a module nothing.
- The argument orders of PyTorch 0.3, `clip_grad_norm`, packages that are not installed.
- CIFAR-10 in torchvision's layout is taken as it is, whatever its size.
- At the end it prints what the pruner did, and compares every sample's scores with what a spy on
  `F.cross_entropy` saw of its batches (or of any batch, where worker processes make them).
"""

import atexit
import importlib.util
import json
import os
import sys
from collections import defaultdict
from unittest.mock import MagicMock

MISSING = (
    "tensorboardX nats_bench nasbench ConfigSpace seaborn IPython graphviz GPUtil thop cvxpy "
    "termcolor"
)
for package in MISSING.split():
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name is no package
        sys.modules[package] = MagicMock()
if isinstance(sys.modules.get("tensorboardX"), MagicMock):  # a run's folder is made by its writer

    def writer(log_dir=".", *_, **__):
        os.makedirs(log_dir, exist_ok=True)
        return MagicMock()

    sys.modules["tensorboardX"].SummaryWriter = writer
if isinstance(sys.modules.get("termcolor"), MagicMock):
    sys.modules["termcolor"].colored = lambda text, *_, **__: text
sys.modules["nas_201_api"] = MagicMock()  # asks for a file of several GB

if any("train" in part or "search" in part for part in sys.orig_argv[1:]):
    import torch
    import torchvision

    def copied(tensor, *_, **__):
        return tensor.clone() if not tensor.requires_grad else tensor

    torch.Tensor.cuda = copied
    torch.nn.Module.cuda = lambda module, *_, **__: module
    torch.set_num_threads = lambda _: None
    torch.cuda.set_device = torch.cuda.manual_seed = torch.cuda.manual_seed_all = lambda *_: None
    torch.cuda.FloatTensor = torch.FloatTensor
    torch.nn.utils.clip_grad_norm = torch.nn.utils.clip_grad_norm_

    def old_order(name):
        current = getattr(torch.Tensor, name)

        def either(tensor, first, *rest, **named):
            if rest and isinstance(rest[0], torch.Tensor):
                return current(tensor, rest[0], alpha=float(first))
            return current(tensor, first, *rest, **named)

        setattr(torch.Tensor, name, either)

    for name in ("add", "add_", "sub", "sub_"):
        old_order(name)

    torchvision.datasets.CIFAR10._check_integrity = lambda _: True
    torchvision.datasets.cifar.check_integrity = lambda *_: True

    fetched = []  # (indices, labels) of every batch made in this process
    fetch = torch.utils.data._utils.fetch._MapDatasetFetcher.fetch

    def noted(fetcher, indices):
        batch = fetch(fetcher, indices)
        if len(batch) == 2 and isinstance(batch[1], torch.Tensor):
            fetched.append((indices, batch[1].clone()))
        return batch

    torch.utils.data._utils.fetch._MapDatasetFetcher.fetch = noted

    spied = []  # (logits, target, the samples it may have been of) of every call with gradients
    cross_entropy = torch.nn.functional.cross_entropy

    def spy(logits, target, *rest, **named):
        if logits.requires_grad:
            lately = fetched[-1:-64:-1]
            of = [indices for indices, labels in lately if torch.equal(labels, target)]
            spied.append((logits.detach().clone(), target.clone(), of))
        return cross_entropy(logits, target, *rest, **named)

    torch.nn.functional.cross_entropy = spy

    import bdp_ext

    prune, pruners = bdp_ext.prune, []

    def kept(*queues, **options):
        pruned = prune(*queues, **options)
        pruners.append((pruned if hasattr(pruned, "pruner") else pruned[0]).pruner)
        return pruned

    bdp_ext.prune = kept

    def report():
        if not pruners:
            return
        pruner = pruners[-1]
        lines = pruner.report()
        of_sample, of_any, scored, wrong = defaultdict(list), [], 0, 0
        for logits, target, of in spied:
            scores = bdp_ext.ops.el2n(logits, target).tolist()
            if not of:
                of_any += scores
            for indices in of:
                for index, score in zip(indices, scores, strict=True):
                    of_sample[index].append(score)
        for level in pruner.levels.values():
            for row in level.pruner.window.scores:
                for index, score in zip(level.members.tolist(), row, strict=True):
                    if not score.isnan():
                        scored += 1
                        known = torch.tensor(of_sample[index] + of_any)
                        wrong += not bool(((known - score).abs() < 1e-6).any())
        print(
            "BDP_REPORT "
            + json.dumps(
                {
                    "epochs": pruner.epoch,
                    "scores": scored,
                    "unmatched": pruner.unmatched,
                    "left": {name: len(live) for name, live in pruner.live_indices.items()},
                    "prunings": lines,
                    "scores_of_no_call": wrong,
                }
            )
        )

    atexit.register(report)
