"""What the loops share: images that carry their number, a small supernet, and an oracle that knows
which forward pass of which sample must have been scored, and which samples must be left."""

import os
import socket
import subprocess
import sys

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, SubsetRandomSampler

import bdp_ext

IMAGES, CLASSES, BATCH, RATIO = 160, 4, 16, 0.3


class Images(torch.utils.data.Dataset):
    """Random images whose first pixel is their number."""

    def __init__(self, images=IMAGES, classes=CLASSES, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.targets = torch.randint(classes, (images,), generator=generator).tolist()
        self.images = torch.randn(images, 3, 6, 6, generator=generator)
        self.images += torch.tensor(self.targets).view(-1, 1, 1, 1) * 0.3
        self.images[:, 0, 0, 0] = torch.arange(images) / 1024

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return self.images[index], self.targets[index]


def numbers(images):
    return (images[:, 0, 0, 0] * 1024).round().long().tolist()


def queues(data=None, batch=BATCH, **options):
    """Two loaders over the halves of one data set, as the public repositories build them."""
    data = data or Images()
    return tuple(
        DataLoader(data, batch, sampler=SubsetRandomSampler(part), **options)
        for part in halves().values()
    )


def subset_queues(split=IMAGES // 2, batch=BATCH, **options):
    """Two loaders over two data sets, each of which numbers its samples from 0."""
    data = Images()
    parts = Subset(data, range(split)), Subset(data, range(split, IMAGES))
    return tuple(DataLoader(part, batch, shuffle=True, **options) for part in parts)


class Network(nn.Module):
    """Two candidate operations mixed by alpha, with the criterion inside as in quark0/darts."""

    def __init__(self, criterion=None, channels=4):
        super().__init__()
        self._criterion = criterion
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.candidates = nn.ModuleList([nn.Conv2d(channels, channels, 1), nn.Identity()])
        self.classifier = nn.Linear(channels, CLASSES)
        self.alphas = nn.Parameter(1e-3 * torch.randn(2))

    def forward(self, images):
        x = self.norm(self.stem(images))
        x = sum(a * op(x) for a, op in zip(self.alphas.softmax(0), self.candidates, strict=True))
        return self.classifier(x.relu().mean((2, 3)))

    def weights(self):
        return [p for name, p in self.named_parameters() if name != "alphas"]

    def new(self):
        fresh = Network(self._criterion)
        fresh.alphas.data.copy_(self.alphas.data)
        return fresh

    def _loss(self, images, target):
        return self._criterion(self(images), target)


def el2n(logits, target):
    logits = logits.detach().double().numpy()
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    p[np.arange(len(p)), target.reshape(-1).numpy()] -= 1
    return np.sqrt((p**2).sum(1))


class Oracle:
    """Keeps its own scores and its own live samples, and compares.

    Args:
        pruner: the handle.
        prunings: after which epochs.
        members: of each level, as its data set numbers them.
        first: the number that the first image of a level's data set carries.
        ratios: the share that each pruning takes of a level.
    """

    def __init__(self, pruner, prunings=(2, 4), members=None, first=None, ratios=None):
        self.pruner, self.prunings, self.interval = pruner, prunings, 2
        self.first, self.ratios = first or {}, ratios or {}
        self.epoch = 0
        self.live = {name: np.asarray(part) for name, part in (members or halves()).items()}
        self.rows = {level: [np.full(IMAGES, np.nan)] for level in self.live}
        self.scored = dict.fromkeys(self.live, 0)

    def forward(self, level, images, logits, target):
        """The loop says: this pass is the one that counts for these samples, unless an earlier one
        of this epoch did."""
        row = self.rows[level][-1]
        for number, score in zip(numbers(images), el2n(logits, target), strict=True):
            number -= self.first.get(level, 0)
            assert number in self.live[level], f"a pruned sample was drawn from {level}"
            if np.isnan(row[number]):
                row[number] = score

    def compare(self, closed):
        """The scores of this epoch are those that the loop named, no more and no fewer."""
        self.pruner.state_dict()  # scores what is waiting
        for level, rows in self.rows.items():
            of = self.pruner.levels[level]
            if of.pruner is not None:
                window = of.pruner.window
                got = window.scores[(window.slot - closed) % len(window.scores)].numpy()
                want = rows[-1][of.members.numpy()]
                np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-7)
                self.scored[level] += int((~np.isnan(want)).sum()) if closed else 0

    def end_epoch(self, compare=True):
        """The loop says: an epoch is over. The pruner must know."""
        self.pruner.state_dict()
        self.epoch += 1
        assert self.pruner.epoch == self.epoch, (self.pruner.epoch, self.epoch)
        if compare:
            self.compare(closed=True)
        for level, rows in self.rows.items():
            if self.pruner.levels[level].pruner is not None:
                self._prune(level)
            rows.append(np.full_like(rows[-1], np.nan))
        self.check_live()

    def _prune(self, level):
        if self.epoch not in self.prunings:
            return
        recent = np.stack(self.rows[level][-self.interval :])
        known = ~np.isnan(recent)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, recent, 0).sum(0) / count
        voe = np.where(known, (recent - mean) ** 2, 0).sum(0) / count
        scored = self.live[level][known.sum(0)[self.live[level]] >= 2]
        sign = 1 if level == "train" else -1
        order = scored[np.argsort(sign * voe[scored], kind="stable")]
        ratio = self.ratios.get(level, RATIO)
        wanted = int(np.floor(ratio * len(self.live[level]) + 1e-9))
        labels = self.pruner.levels[level].labels.numpy()
        left = np.bincount(labels[self.live[level]])
        gone = []
        for sample in order:  # greedy, and a class keeps one
            if len(gone) < wanted and left[labels[sample]] > 1:
                left[labels[sample]] -= 1
                gone.append(sample)
        self.live[level] = np.setdiff1d(self.live[level], gone)

    def new_stage(self):
        self.rows = {level: [np.full(len(r[0]), np.nan)] for level, r in self.rows.items()}

    def check_live(self):
        """The samples left are those that the oracle would keep."""
        for level, live in self.live.items():
            got = self.pruner.live_indices[level].numpy()
            assert np.array_equal(got, live), (level, len(got), len(live))

    def finish(self, train_queue=None):
        """Both levels were scored, and the training queue draws what is left."""
        self.check_live()
        assert all(self.scored.values()), self.scored
        if train_queue is not None:
            assert len(train_queue) == -(-len(self.live["train"]) // BATCH)


class Search(Oracle):
    """A loop's model, criterion and optimisers, with the oracle that watches it."""

    def set_up(self, model, criterion):
        self.model, self.criterion = model, criterion
        self.optimizers = {
            "train": torch.optim.SGD(model.weights(), 0.1, momentum=0.9),
            "valid": torch.optim.Adam([model.alphas], 0.01),
        }

    def step(self, level, images, target):
        """The usual step of either level, whose forward pass counts."""
        self.optimizers[level].zero_grad()
        logits = self.model(images)
        self.criterion(logits, target).backward()
        self.forward(level, images, logits, target)
        self.optimizers[level].step()


def begin(epochs, model=None, criterion=None, given=None, hooked=None, oracle=None, **options):
    """What most loops begin with; `options` are those of `bdp_ext.prune`.

    Args:
        given: the queues to be pruned.
        hooked: what `bdp_ext.prune` is told to watch; the criterion.
        oracle: options of the oracle.

    Returns:
        The search, and the queues that `bdp_ext.prune` returned.
    """
    criterion = criterion or nn.CrossEntropyLoss()
    model = model or Network(criterion)
    hooked = {"loss": criterion} if hooked is None else hooked
    options = {"interval": 2, "balance": "none", **hooked, **options}
    train_queue, valid_queue = bdp_ext.prune(*(given or queues()), epochs=epochs, **options)
    prunings = tuple(range(2, epochs, 2)) if isinstance(epochs, int) else ()
    search = Search(train_queue.pruner, **{"prunings": prunings, **(oracle or {})})
    search.set_up(model, criterion)
    return search, train_queue, valid_queue


def loop(train_queue, valid_queue, loss, epochs=1, model=None):
    """Epochs of both queues zipped, without optimisers."""
    model = model or Network()
    for _ in range(epochs):
        for batches in zip(train_queue, valid_queue, strict=False):
            for images, target in batches:
                loss(model(images), target).backward()


def run_ranks(script, ranks=2):
    """A script once for each rank, which meet at a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    world = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in map(str, range(ranks)):
        environment = {**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank}
        command = [sys.executable, "-W", "error", script]
        started.append(subprocess.Popen(command, env=environment))
    assert [process.wait() for process in started] == [0] * ranks


def halves():
    return {"train": range(IMAGES // 2), "valid": range(IMAGES // 2, IMAGES)}
