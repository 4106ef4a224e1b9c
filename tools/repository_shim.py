"""Runs an old GPU repository on a current PyTorch without a GPU; `check_repositories.py` puts this
file into the repository's Python path as `sitecustomize.py`. It changes that process only.

- `.cuda()` of a tensor makes a copy, as on a GPU (so that batches must be known again by their
  labels), and of a module nothing.
- The argument orders of PyTorch 0.3, `clip_grad_norm`, packages that are not installed.
- CIFAR-10 in torchvision's layout is taken as it is, whatever its size.
- At the end it prints what the pruner did, and compares the scores with those of a spy on
  `nn.CrossEntropyLoss`.
"""

import atexit
import importlib.util
import json
import sys
from unittest.mock import MagicMock

MISSING = "tensorboardX nats_bench nasbench ConfigSpace seaborn IPython graphviz"
for package in MISSING.split():
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:  # a folder of that name is no package
        sys.modules[package] = MagicMock()
sys.modules["nas_201_api"] = MagicMock()  # asks for a file of several GB

if any("train" in part or "search" in part for part in sys.orig_argv[1:]):
    import torch
    import torchvision

    def copied(tensor, *_, **__):
        return tensor.clone() if not tensor.requires_grad else tensor

    torch.Tensor.cuda = copied
    torch.nn.Module.cuda = lambda module, *_, **__: module
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

    spied = []  # (logits, target) of every call with gradients
    forward = torch.nn.CrossEntropyLoss.forward

    def spy(criterion, logits, target):
        if logits.requires_grad:
            spied.append((logits.detach().clone(), target.clone()))
        return forward(criterion, logits, target)

    torch.nn.CrossEntropyLoss.forward = spy

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
        known = torch.cat([bdp_ext.ops.el2n(*call) for call in spied]).sort().values
        wrong = 0
        for level in pruner.levels.values():
            scores = level.pruner.window.scores
            scores = scores[~scores.isnan()]
            if len(scores):
                at = torch.searchsorted(known, scores).clamp(max=len(known) - 1)
                near = torch.minimum((known[at] - scores).abs(), (known[at - 1] - scores).abs())
                wrong += int((near > 1e-6).sum())
        print(
            "BDP_REPORT "
            + json.dumps(
                {
                    "epochs": pruner.epoch,
                    "batches_scored": pruner._scored,
                    "unmatched": pruner.unmatched,
                    "left": {name: len(live) for name, live in pruner.live_indices.items()},
                    "prunings": lines,
                    "scores_of_no_call": wrong,
                }
            )
        )

    atexit.register(report)
