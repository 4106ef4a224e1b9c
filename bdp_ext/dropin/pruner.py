"""The handle: both levels, their clock and hook, and what their loaders report."""

import logging
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from bdp_ext.dropin.epoch_clock import EpochClock, Pass
from bdp_ext.dropin.hooks import Hook, install_hook
from bdp_ext.dropin.label_finder import LabelFinder, PairFinder
from bdp_ext.dropin.labels import members_of
from bdp_ext.dropin.level import Level, SharedOnCopy
from bdp_ext.dropin.loaders import PrunedDataLoader, prune_loader
from bdp_ext.dropin.options import check_queues
from bdp_ext.dropin.pair_loader import PairCollate, Pairs, SharedLevel
from bdp_ext.dropin.recent_batches import DrawnBatch

GROUP = 32
"""Forward passes that may wait to be scored in the middle of an epoch. A batch on a GPU is waited
for only then."""

NONE_SCORED = (
    "bdp_ext: epoch %d: no sample of the %s level has two scores, so none is pruned; that is right "
    "as long as its steps have not begun, otherwise they use another %s than the one that was "
    "given: pass both, and call bdp_ext.prune before the %s is copied."
)

ONE_SCORE = (
    "bdp_ext: epoch %d: no sample of the validation level has two scores yet, so none is pruned: "
    "its steps have just begun, or they come after the pass over the training queue that ends the "
    "epoch; then pass unit='manual' and call train_queue.pruner.end_epoch() after them."
)

SHORT_EPOCHS = (
    "bdp_ext: epoch %d: as many training batches as an epoch has were drawn twice within one pass "
    "over the validation queue; where that pass is the loop's epoch, pass unit='manual' to "
    "bdp_ext.prune and call train_queue.pruner.end_epoch() after it."
)

log = logging.getLogger("bdp_ext")


class DropInPruner(SharedOnCopy):
    """The pruner behind the loaders that `bdp_ext.prune` returns: `train_queue.pruner`.

    Attributes:
        levels: "train" and "valid", as their data sets number the samples.
        unit: "epoch", "step" or "manual".
        epoch: epochs that are over.
        unmatched: forward passes that a backward pass reached and that were of no batch drawn
            lately, so not scored.
    """

    def __init__(
        self,
        levels: dict[str, Level],
        clock: EpochClock,
        hook: Hook,
        kind: str,
    ) -> None:
        self.levels = levels
        self.unit = clock.unit
        self.epoch = 0
        self.unmatched = 0
        self._clock = clock
        self._hook = hook
        self._kind = kind
        self._scored = False  # whether anything was
        pruners = [level.pruner for level in levels.values() if level.pruner is not None]
        self._epochs = max(pruner.schedule.all_epochs for pruner in pruners)
        self._began = 0  # the newest pass when the epoch began
        self._calls = 0  # of what is hooked, before the pass under way
        self._refused = False  # whether a first epoch without a score was
        self._told: set[str] = set()  # of what the user has been warned, and need not be again
        self._valid_pass = Pass()  # the newest
        self._valid_epoch = 0  # when it began

    @property
    def live_indices(self) -> dict[str, Tensor]:
        """[n] int64 for each level: the samples still there, as its data set numbers them,
        ascending."""
        self.tick(next_batch=False)
        return {name: level.live_indices for name, level in self.levels.items()}

    def report(self) -> list[dict[str, Any]]:
        """Every pruning so far in order of time, as plain values: its `level`, and the attributes
        of `bdp_ext.pruning.Pruning`."""
        self.tick(next_batch=False)
        rows = [
            {"level": name, **row}
            for name, level in self.levels.items()
            if level.pruner is not None
            for row in level.pruner.report()
        ]
        return sorted(rows, key=lambda row: int(row["epoch"]))

    def watch(self, *modules: nn.Module) -> None:
        """Score the forward passes of these too: a criterion (or model, when `bdp_ext.prune` got
        `model=`) that the loop builds anew."""
        for module in modules:
            install_hook(self._hook, module)

    def adopt(
        self, train_queue: DataLoader[Any], valid_queue: DataLoader[Any] | None = None
    ) -> Any:
        """What `bdp_ext.prune` returned once more, for loaders that the loop has built anew (with
        another batch size, say).

        Args:
            train_queue, valid_queue: over the data sets and all the samples of the first ones.

        Raises:
            TypeError, ValueError: what cannot be pruned, or other samples.
        """
        if isinstance(train_queue, PrunedDataLoader):
            train_queue = train_queue.unpruned
        if isinstance(valid_queue, PrunedDataLoader):
            valid_queue = valid_queue.unpruned
        check_queues(train_queue, valid_queue, "both")
        for name, loader in (("train", train_queue), ("valid", valid_queue)):
            level = self.levels.get(name)
            if loader is None or level is None:
                continue
            images: Any = loader.dataset
            same = len(images) == level.labels.numel()
            if not same or not members_of(loader, None, name)[0].equal(level.members):
                raise ValueError(
                    f"bdp_ext: the new {name} loader draws other samples than the one that "
                    "bdp_ext.prune was given; build it over the same data set and all of its "
                    "indices, live or not."
                )
        return self.attach(train_queue, valid_queue)

    def attach(self, train_queue: DataLoader[Any], valid_queue: DataLoader[Any] | None) -> Any:
        """Loaders in place of these, which have been checked: one, or both."""
        levels, recent, inputs = self.levels, self._hook.recent, self._kind == "model"
        second = levels.get("valid")
        inside: dict[str, Any] = {}
        finder: LabelFinder | None = None
        if isinstance(second, SharedLevel):
            inside["dataset"] = Pairs(train_queue.dataset, second.dataset, second.reader)
            inside["collate_fn"] = PairCollate(train_queue.collate_fn)
            finder = PairFinder(levels["train"], second, recent, inputs=inputs)
        elif self._kind != "observe":
            finder = LabelFinder(levels["train"], recent, inputs=inputs)
        train = prune_loader(train_queue, levels["train"], finder, self, inside)
        self._clock.follow(train._recorder.__len__)
        self._hook.follow(finder or self)
        if valid_queue is None or second is None:
            return train
        if finder is not None:
            finder = LabelFinder(second, recent, inputs=inputs)
        return train, prune_loader(valid_queue, second, finder, self, {})

    def observe(self, level: str, index: Tensor, logits: Tensor, target: Tensor) -> None:
        """Score a batch oneself; a sample's first score in an epoch counts.

        Args:
            level: "train" or "valid".
            index: [B] int64, the samples as the level's data set numbers them.
            logits: [B, C] floating. Read detached.
            target: [B] int64, one class per sample.

        Raises:
            ValueError: no such level, an index that is not of it, or a wrong shape or dtype.
        """
        if level not in self.levels:
            raise ValueError(f"bdp_ext.observe: level must be 'train' or 'valid', got {level!r}.")
        index, logits = torch.as_tensor(index).cpu(), logits.detach().cpu()
        of = self.levels[level]
        inside = (index >= 0) & (index < of.position.numel())
        if not bool(inside.all()) or bool((of.position[index] < 0).any()):
            raise ValueError(f"bdp_ext.observe: index holds samples that are not in level {level}.")
        of.observe(index, logits, target.cpu())
        self._scored = True

    def end_epoch(self) -> None:
        """Close the epoch, with unit="manual"; prunes when it is time.

        Raises:
            RuntimeError: the clock runs by itself.
        """
        if self.unit != "manual":
            raise RuntimeError(
                "bdp_ext: this pruner sees the ends of epochs itself; pass unit='manual' to "
                "bdp_ext.prune to call end_epoch()."
            )
        self._write_scores()
        if not self._scored:
            raise RuntimeError(self._nothing_scored())
        self._end_epoch()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values; loads with `weights_only=True`. A state of the middle of an
        epoch resumes there, if the loop does."""
        self.tick(next_batch=False)
        return {
            "epoch": self.epoch,
            "clock": self._clock.state_dict(),
            "levels": {name: level.state_dict() for name, level in self.levels.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a pruner made with the same arguments."""
        self.epoch = state["epoch"]
        self._clock.load_state_dict(state["clock"])
        for name, level in self.levels.items():
            level.load_state_dict(state["levels"][name])
        self._scored = True

    # What loaders report.

    def open(self, level: str) -> Pass:
        """The queue of a level begins a pass."""
        if level == "valid":
            self._valid_pass, self._valid_epoch = Pass(), self.epoch
            return self._valid_pass
        self.on_next_batch()
        if not (self.epoch or self._clock.begun or self._clock.idle() or self._hook.reached):
            self._calls = self._hook.calls
        return self._clock.open()

    def on_next_batch(self) -> None:
        """The training queue is asked for the next batch."""
        reached = len(self._hook.reached)
        if reached >= GROUP or self._clock.may_be_over(reached):
            self.tick(next_batch=True)

    def tick(self, next_batch: bool) -> None:
        """Score what is waiting, and close the epoch if it is over.

        Args:
            next_batch: the training queue is asked for the next batch.
        """
        self._write_scores()
        if not (self.epoch or self._clock.begun):
            self._check_idle()
        while self._clock.epoch_over(next_batch):
            self._end_epoch()

    def _write_scores(self) -> None:
        """Score the forward passes that a backward pass has reached since: of each batch the first
        one of the epoch."""
        for noted in self._hook.take():
            batch = noted.find()
            if batch is None:
                self.unmatched += 1
                continue
            if batch.scored > self._began or batch.scored >= noted.order:
                continue  # a later pass of the batch in this epoch, or a pass that is known
            if batch.scored == 0 and batch.level.name == "train":
                self._clock.train(batch.of)
            batch.scored = noted.order
            self._observe(batch, noted.logits)
            self._scored = True

    def _observe(self, batch: DrawnBatch, logits: Tensor) -> None:
        level = batch.level
        if not torch.equal(level.labels.index_select(0, batch.index), batch.labels):
            raise RuntimeError(
                f"bdp_ext.prune: the {level.name} loader yields other labels than its data set "
                "keeps (a collate function or wrapper that changes them?); pass "
                "labels=(train_labels, valid_labels) as the loaders yield them."
            )
        matrix = logits.flatten(1).cpu()
        if not bool((matrix < torch.inf).all()):  # -inf is a legal logit
            raise RuntimeError(
                f"bdp_ext.prune: in epoch {self.epoch + 1} logits of the {level.name} queue are "
                "NaN or infinite, so training has diverged; lower its learning rate, or clip its "
                "gradients."
            )
        level.observe(batch.index, matrix, batch.labels)

    def _end_epoch(self) -> None:
        self.epoch += 1
        self._began = self._hook.calls
        self._hook.begun = True
        self._hook.over |= self.epoch + 1 >= self._epochs
        within_valid_pass = not self._valid_pass.over and self.epoch >= self._valid_epoch + 2
        if self._clock.next_iter_style and within_valid_pass:
            self._tell("pass", SHORT_EPOCHS, self.epoch)
        for name, level in self.levels.items():
            if level.pruner is None:
                continue
            window = level.pruner.window
            window.merge_ranks()
            one_score = not bool(window.scores.isnan().all())
            pruning = level.pruner.end_epoch()
            if pruning is not None:
                level.renew()
                log.info(
                    "epoch %d: %s level pruned from %d to %d samples",
                    self.epoch, name, pruning.before, pruning.after,
                )  # fmt: skip
            elif self.epoch in level.pruner.schedule.prunings:
                if name == "valid" and one_score:
                    self._tell(name, ONE_SCORE, self.epoch)
                else:
                    self._tell(name, NONE_SCORED, self.epoch, name, self._kind, self._kind)

    def _tell(self, what: str, text: str, *values: Any) -> None:
        """Warn, once of each thing."""
        if what not in self._told:
            self._told.add(what)
            log.warning(text, *values)

    def _check_idle(self) -> None:
        """Refuse a first epoch in which no training batch was scored; an evaluation, or a look at
        the data under `no_grad`, is none."""
        looked = self._hook.calls > self._calls and self.unmatched == 0 and not self._scored
        observed = self._kind == "observe" or (self.unit == "manual" and self._scored)
        if observed or looked or not torch.is_grad_enabled():
            return
        if self._clock.idle() <= 1:  # one batch alone may have been fetched ahead
            return
        if not self._refused:
            self._refused = True
            raise RuntimeError(self._nothing_scored())
        if "idle" not in self._told:  # a loop that catches everything around `next` goes on
            self._told.add("idle")
            log.error("%s", self._nothing_scored())

    def _nothing_scored(self) -> str:
        if self._kind == "observe":
            return (
                "bdp_ext: nothing was scored in the first epoch; call bdp_ext.observe(level, "
                "index, logits, target) for each batch, or pass loss= or model= to "
                "bdp_ext.prune."
            )
        what = "model" if self._kind == "model" else "criterion"
        argument = "model" if self._kind == "model" else "loss"
        if self._hook.calls == self._calls:
            return (
                f"bdp_ext.prune: the {what} was never called in the first epoch; pass the {what} "
                "object that the loop calls (train_queue.pruner.watch(it) when it is built later), "
                + ("loss= instead" if what == "model" else "or model= for a loss function")
                + "; for statistics of the data iterate train_queue.unpruned."
            )
        if self._scored:
            return (
                f"bdp_ext.prune: the {what} scored batches of the validation queue only, so the "
                f"weights are trained with another {what}; pass both, as in bdp_ext.prune("
                f"train_queue, valid_queue, {argument}=({what}, other_{what}), ...)"
                + ("." if what == "model" else ", or model= for a loss function.")
            )
        given = "inputs" if what == "model" else "labels"
        return (
            f"bdp_ext.prune: the {what} was called, but never with the {given} of a batch that the "
            "loaders drew (are they changed, cut up or joined on the way?); score the batches "
            "yourself with bdp_ext.observe(level, index, logits, target)."
        )
