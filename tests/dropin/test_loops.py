"""`bdp_ext.prune` in loops that draw their batches in the manner of the public ones.

Every loop says itself which forward pass counts for which samples; `loops/common.py` recomputes
the scores and the samples that must be left, and compares both after every epoch.
"""

import copy
import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from common import BATCH, IMAGES, Images, Network, Search, begin, queues, subset_queues
from torch import nn
from torch.autograd import Variable
from torch.nn import functional as F

import bdp_ext

LOOPS = Path(__file__).parent / "loops"
OWN_PROCESS = {
    "accelerate_loop": "accelerate",  # keeps its state in the process
    "lightning_fit": "lightning",  # changes warnings and loggers
    "two_ranks": None,  # starts one for each rank
}
"""Loops that need a process of their own, and what must be installed."""


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def endless(queue):
    while True:
        yield from queue


def test_first_order():
    """quark0/darts: next(iter(valid_queue)) each step, an evaluation of the validation queue after
    each epoch (with gradients on, as on a PyTorch that has forgotten `volatile`)."""
    search, train_queue, valid_queue = begin(epochs=7)
    model, criterion = search.model, search.criterion
    lengths = []
    for _ in range(7):
        lengths.append(len(train_queue))
        steps = 0
        for input, target in train_queue:
            model.train()
            steps += 1
            input, target = Variable(input), Variable(target, requires_grad=False)
            input_search, target_search = next(iter(valid_queue))
            search.step("valid", input_search, Variable(target_search, requires_grad=False))
            search.step("train", input, target)
        assert steps == lengths[-1]
        search.end_epoch()
        model.eval()
        for input, target in valid_queue:
            criterion(model(input), target).item()
    search.finish(train_queue)
    assert lengths[0] == 80 // BATCH
    assert lengths[-1] == 2  # 80 -> 56 -> 40 -> 28 samples


def test_both_by_next_iter():
    """An epoch is as many steps as the training queue has batches, which the loop reads anew."""
    search, train_queue, valid_queue = begin(epochs=7)
    next(iter(train_queue))  # a look at the data
    for _ in range(7):
        for _ in range(len(train_queue)):
            input, target = next(iter(train_queue))
            search.step("valid", *next(iter(valid_queue)))
            search.step("train", input, target)
        search.end_epoch()
    search.finish(train_queue)


def test_late_alpha():
    """PC-DARTS: a validation batch is drawn each step and not used before a late epoch."""
    search, train_queue, valid_queue = begin(epochs=9)
    for epoch in range(9):
        for input, target in train_queue:
            input_search, target_search = next(iter(valid_queue))
            if epoch >= 3:
                search.step("valid", input_search, target_search)
            search.step("train", input, target)
        search.end_epoch()
    search.finish(train_queue)
    valid = [row for row in train_queue.pruner.report() if row["level"] == "valid"]
    assert [row["epoch"] for row in valid] == [6, 8]  # none without two scores
    assert all(row["taken"] > 0 for row in valid)


def test_zipped():
    """The validation set is smaller: an epoch is over when it is used up."""
    train_samples = 100
    given = subset_queues(train_samples, drop_last=True)
    members = {"train": range(train_samples), "valid": range(IMAGES - train_samples)}
    ratios = {"train": 0.2, "valid": 0.3}
    oracle = {"members": members, "first": {"valid": train_samples}, "ratios": ratios}
    search, train_queue, valid_queue = begin(epochs=7, given=given, oracle=oracle, prune_train=0.2)
    for _ in range(7):
        batches, most = 0, len(valid_queue)
        for train_batch, valid_batch in zip(train_queue, valid_queue, strict=False):
            batches += 1
            search.step("valid", *valid_batch)
            search.step("train", *train_batch)
        assert batches == most
        search.end_epoch()  # the training pass was left with a batch drawn and unused
    search.finish()


def test_fetched_ahead():
    """A prefetcher asks for the next batch before the last one is trained, as data prefetchers for
    GPUs do: the queue is used up one step early. `len()` is read in the last step, too."""

    def ahead(queue):
        batches = iter(queue)
        batch = next(batches)
        while batch is not None:
            following = next(batches, None)
            yield batch
            batch = following

    search, train_queue, valid_queue = begin(epochs=5, given=queues(num_workers=1))
    for epoch in range(5):
        both = zip(ahead(train_queue), ahead(valid_queue), strict=False)
        for train_batch, valid_batch in both:
            assert train_queue.pruner.epoch == epoch
            search.step("valid", *valid_batch)
            assert len(train_queue) > 0
            search.step("train", *train_batch)
        search.end_epoch()
    search.finish(train_queue)


def test_evaluation():
    """Evaluations of both queues, under `no_grad` and without, before, between and within epochs;
    the validation queue is drawn by an iterator that lives across epochs."""
    search, train_queue, valid_queue = begin(epochs=5)
    model, criterion = search.model, search.criterion

    @torch.no_grad()
    def infer(queue):
        seen = 0
        for input, target in queue:
            criterion(model(input), target)
            seen += len(input)
        return seen

    infer(train_queue)
    infer(valid_queue)
    valid_batches = endless(valid_queue)
    for _ in range(5):
        for step, (input, target) in enumerate(train_queue):
            input_search, target_search = next(valid_batches)
            if step == 1:
                infer(valid_queue)
                infer(train_queue)  # no epoch
                target, target_search = target.clone(), target_search.clone()
            search.step("valid", input_search, target_search)
            search.step("train", input, target)
        search.end_epoch()
        assert infer(valid_queue) == len(train_queue.pruner.live_indices["valid"])
        assert infer(valid_queue.unpruned) == 80
        for input, target in train_queue:  # no backward: no epoch
            criterion(model(input), target)
    search.finish(train_queue)


def test_steps():
    """A loop that counts steps and knows no epochs: a pruning every ten steps."""
    search, train_queue, valid_queue = begin(
        epochs=35, interval=10, unit="step", oracle={"prunings": (2, 4, 6)}
    )
    train_batches, valid_batches = endless(train_queue), endless(valid_queue)
    for step in range(35):
        input, target = next(train_batches)
        search.step("valid", *next(valid_batches))
        search.step("train", input, target)
        if (step + 1) % (80 // BATCH) == 0:
            search.end_epoch()
    search.finish(train_queue)


def test_stages():
    """P-DARTS: a new model, optimiser and criterion for each stage, alpha steps only in a stage's
    later epochs, and a validation iterator kept in a variable of one epoch."""
    stages = (4, 5, 4)
    search, train_queue, valid_queue = begin(stages, oracle={"prunings": (2, 4, 6, 8, 11)})
    for stage, epochs in enumerate(stages):
        if stage > 0:
            criterion = nn.CrossEntropyLoss()
            train_queue, valid_queue = bdp_ext.prune(
                train_queue, valid_queue, criterion, epochs=stages
            )
            search.set_up(Network(criterion, channels=4 + stage), criterion)
            search.new_stage()
        for epoch in range(epochs):
            steps = len(train_queue)
            for step, (input, target) in enumerate(train_queue):
                if epoch >= 2:
                    try:
                        valid_batch = next(valid_iter)
                    except (NameError, StopIteration):
                        valid_iter = iter(valid_queue)
                        valid_batch = next(valid_iter)
                    search.step("valid", *valid_batch)
                search.step("train", input, target)
                if step == steps - 1:
                    search.compare(closed=False)  # a stage's last scores go with its model
            search.end_epoch(compare=epoch < epochs - 1)
    search.finish(train_queue)
    epochs = {"train": [], "valid": []}
    for row in train_queue.pruner.report():
        epochs[row["level"]].append(row["epoch"])
    assert epochs == {"train": [2, 4, 6, 8, 11], "valid": [4, 8]}


def test_rebuilt():
    """SGAS: after a decision both loaders are built anew, over all samples and with a larger batch;
    the old ones are deleted."""
    data, batch = Images(), BATCH
    search, train_queue, valid_queue = begin(epochs=7, given=queues(data))
    pruner = train_queue.pruner
    for epoch in range(7):
        for input, target in train_queue:
            search.step("valid", *next(iter(valid_queue)))
            search.step("train", input, target)
        if epoch in (1, 4):
            del train_queue, valid_queue
            batch += 8
            train_queue, valid_queue = pruner.adopt(*queues(data, batch))
            assert train_queue.pruner is valid_queue.pruner is pruner
        search.end_epoch()
        assert len(train_queue) == -(-len(search.live["train"]) // batch)
    search.finish()


def test_copied():
    """Queues that the loop deep-copies (RobustDARTS, SmoothDARTS and NASP do so to take one batch
    for a Hessian after each epoch): a copy belongs to the same search."""
    search, train_queue, valid_queue = begin(epochs=7)
    model, criterion = search.model, search.criterion
    early = copy.deepcopy(valid_queue)
    for _ in range(7):
        for train_batch, valid_batch in zip(train_queue, early, strict=False):
            search.step("valid", *valid_batch)
            search.step("train", *train_batch)
        search.end_epoch()
        copied = copy.deepcopy(train_queue)
        assert copied.pruner is train_queue.pruner
        assert copied.dataset is not train_queue.dataset
        assert len(copied) == len(train_queue)
        input, target = next(iter(copied))
        logits = model(input)  # the first pass of these samples in the epoch to come
        loss = criterion(logits, target)
        gradients = torch.autograd.grad(loss, [model.alphas], create_graph=True)
        torch.autograd.grad(gradients[0].sum(), [model.alphas])
        search.forward("train", input, logits, target)
    assert train_queue.pruner.unmatched == 0
    search.finish(train_queue)


class Unwatched(Search):
    """A search without a pruner."""

    def __init__(self, model, criterion):
        self.set_up(model, criterion)

    def forward(self, *_):
        pass

    def end_epoch(self):
        pass


def resized(search, train_queue, valid_queue):
    """ProxylessNAS: the loop sets the validation queue's batch size and `drop_last` for its alpha
    steps and again for its evaluations; its batches come from an iterator that outlives epochs."""

    def resize(size, drop_last):
        valid_queue.batch_sampler.batch_size = size
        valid_queue.batch_sampler.drop_last = drop_last

    torch.manual_seed(1)
    valid_batches, seen = endless(valid_queue), []
    for _ in range(5):
        for images, target in train_queue:
            search.step("train", images, target)
            resize(10, True)
            images, target = next(valid_batches)
            assert len(target) == 10
            search.step("valid", images, target)
        search.end_epoch()
        resize(32, False)
        with torch.no_grad():
            sizes = [len(target) for _, target in valid_queue]
        assert len(sizes) == len(valid_queue)
        assert sizes[:-1] == [32] * (len(sizes) - 1)
        seen.append(sum(sizes))
    return seen, {name: value.tolist() for name, value in search.model.state_dict().items()}


@pytest.mark.parametrize("prune", [0.0, 0.3])
def test_resized(prune):
    """Label smoothing is a function. Without pruning all is as with the given loaders."""
    smoothed = partial(F.cross_entropy, label_smoothing=0.1)
    given, model = queues(), Network()
    alone = Unwatched(copy.deepcopy(model), smoothed)
    search, train_queue, valid_queue = begin(
        epochs=5, model=model, criterion=smoothed, given=given, hooked={"model": model},
        oracle={"ratios": {"train": prune, "valid": prune}}, prune_train=prune, prune_valid=prune,
    )  # fmt: skip
    pruned = resized(search, train_queue, valid_queue)
    assert given[1].batch_sampler.batch_size == BATCH  # the given loaders stay as they are
    search.finish(train_queue)
    assert (pruned == resized(alone, *given)) == (prune == 0)


def test_inner_steps():
    """iDARTS: an epoch is a pass over the validation queue, each batch of which takes several
    batches of the training queue by `next(iter(train_queue))`, and one more for a Hessian-vector
    product."""
    search, train_queue, valid_queue = begin(epochs=5, unit="manual")
    model, criterion = search.model, search.criterion
    for _ in range(5):
        for images_search, target_search in valid_queue:
            for _ in range(3):
                images, target = next(iter(train_queue))
                search.step("train", images, target)
            last = copy.deepcopy(model)
            loss = criterion(last(images), target)
            torch.autograd.grad(loss, last.weights(), create_graph=True)[0].norm().backward()

            unrolled = copy.deepcopy(model)
            logits = unrolled(images_search)
            criterion(logits, target_search).backward()
            search.forward("valid", images_search, logits, target_search)
            images, target = next(iter(train_queue))
            for sign in (1, -1):
                with torch.no_grad():
                    for weight in model.weights():
                        weight += sign * 1e-3
                logits = model(images)
                if sign == 1:
                    search.forward("train", images, logits, target)
                torch.autograd.grad(criterion(logits, target), [model.alphas])
            model.alphas.grad = unrolled.alphas.grad
            search.optimizers["valid"].step()
        train_queue.pruner.end_epoch()
        search.end_epoch()
    search.finish(train_queue)


class WithLatency(nn.CrossEntropyLoss):
    """FBNet's criterion takes the latency (a matrix that a backward pass reaches too), meters and
    the batch size as well."""

    def forward(self, logits, target, latency, losses, count):
        loss, latency = super().forward(logits, target), latency**0.6
        losses.append(loss.item() / count)
        return 0.2 * loss * latency


def test_weights_then_alpha():
    """FBNet: a pass of the weights, then one of alpha, in every epoch but the first. CDARTS: a
    criterion that is built anew in the function that trains an epoch."""
    search, train_queue, valid_queue = begin(epochs=7, criterion=WithLatency(), unit="manual")
    model = search.model

    def one_pass(queue, level):
        criterion, losses = WithLatency(), []
        train_queue.pruner.watch(criterion)
        for images, target in queue:
            search.optimizers[level].zero_grad()
            latency = model.alphas.softmax(0)[:1].view(1, 1) + 1
            logits = model(images)
            criterion(logits, target, latency, losses, len(target)).backward()
            search.forward(level, images, logits, target)
            search.optimizers[level].step()

    for epoch in range(7):
        one_pass(train_queue, "train")
        if epoch:
            one_pass(valid_queue, "valid")
        train_queue.pruner.end_epoch()
        search.end_epoch()
    search.finish(train_queue)


@pytest.mark.parametrize("name", OWN_PROCESS)
def test_loop_in_its_own_process(name):
    extra = OWN_PROCESS[name]
    if extra and find_spec(extra) is None:
        pytest.skip(f"needs bdp_ext[{extra}]")
    run = subprocess.run(
        [sys.executable, "-W", "error", f"{name}.py"],
        cwd=LOOPS,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "scored" in run.stdout
