"""The bi-level loop: alpha down the validation loss, weights down the training loss, both data sets
shrinking.

search = Search(SearchConfig(data="digits"), load("digits"))
while not search.done:
    search.step()
    if search.epoch_done:
        record = search.end_epoch()
print(record["architecture"])
"""

from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bdp_ext.data import ImageSet, split_halves
from bdp_ext.errors import UserError
from bdp_ext.methods import Batch, Epoch, Step, find_method
from bdp_ext.pruning import (
    CRITERIA,
    LEVELS,
    Passes,
    Pruner,
    batches_in_pass,
    samples_drawn,
)
from bdp_ext.runs import Job
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.cuda_graphs import Function, Graphs, Result, compiled
from bdp_ext.search.features import Features
from bdp_ext.search.hessian import dominant_eigenvalue
from bdp_ext.search.level import SearchLevel
from bdp_ext.spaces import find_space


class Search(Job[SearchConfig]):
    """One search and all of its state: a `Job`.

    Args:
        config: the settings.
        data: the images of both levels.

    Raises:
        UserError: a setting that cannot be used with this data or on this machine.
    """

    kind = "search"

    def __init__(self, config: SearchConfig, data: ImageSet) -> None:
        super().__init__(config, data.checksum())
        self.classes = data.classes
        self.method = find_method(config.method)()
        self.space = find_space(config.space).for_images(data.image_size)
        self.stopped = False  # by the method, ahead of time

        data = data.to(self.device)
        halves = split_halves(data.labels, config.train_share, config.seed)
        self.levels = {}
        for name, half, seed in zip(LEVELS, halves, _seeds(config.seed), strict=True):
            pruner = self._pruner(name, data.labels[half], seed)
            self.levels[name] = SearchLevel(data, half, config.batch_size, pruner, seed)
        self.train, self.valid = self.levels["train"], self.levels["valid"]

        self._unpruned_epoch_steps = self.epoch_steps
        self._graphs = self._make_graphs()
        self._begin_stage()

    def _begin_stage(self) -> None:
        """A supernet and optimisers of its own for the stage that begins."""
        config = self.config
        self.supernet = self.method.supernet(
            self.space,
            channels=config.channels,
            cells=config.cells,
            classes=len(self.classes),
            past=self._past(self.stage),
        ).to(self.device)
        self.supernet.to(memory_format=torch.channels_last)
        self.supernet.alpha_to_weights = self.method.candidate_weights
        self.supernet.skips_zeros = self.method.skips_zeros
        with torch.no_grad():
            self.method.init_alphas(self.supernet.alphas())
        self.supernet.fused = config.fused
        self.supernet.checkpoint_cells = config.checkpoint_cells
        self._forward = compiled(self.supernet, config.batch_size) if config.compile else None
        if self._graphs:
            self._graphs.restart()
        pruner = self.train.pruner
        self._features = Features(self.supernet) if pruner and pruner.features else None
        for level in self.levels.values():
            level.features = self._features
        self.weight_optimizer = torch.optim.SGD(
            self.supernet.weights(),
            config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.alpha_optimizer = self.method.alpha_optimizer(
            self.supernet.alphas(), lr=config.alpha_lr, weight_decay=config.alpha_weight_decay
        )
        self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            self.weight_optimizer, config.epochs, config.lr_min
        )
        self._begin_epoch()

    def _begin_epoch(self) -> None:
        self._alpha_batch: Batch | None = None
        if self._graphs:
            self._graphs.reset()
        self.method.begin_epoch(self.supernet, self._epoch())

    def _epoch(self) -> Epoch:
        config = self.config
        return Epoch(self.stage, self.epoch % config.epochs, config.epochs, config.alpha_start)

    def _past(self, stages: int) -> list[list[Tensor]]:
        """The alphas at the end of the first stages."""
        ends = [self.history[(stage + 1) * self.config.epochs - 1] for stage in range(stages)]
        return [[torch.tensor(alpha) for alpha in end["alpha"]] for end in ends]

    def _make_graphs(self) -> Graphs | None:
        if not self.config.cuda_graphs:
            return None
        if self.device.type != "cuda":
            raise UserError(
                f"--cuda-graphs needs a GPU, and this search runs on {self.device.type}: leave it "
                "out, or give --device cuda."
            )
        return Graphs(self.config.batch_size)

    def _pruner(self, level: str, labels: Tensor, seed: int) -> Pruner | None:
        kind = self.config.pruner_class
        if kind is None or level not in self.config.pruned_levels:
            return None
        return kind(
            labels,
            self.config.level_schedule(level),
            criterion=CRITERIA[self.config.criterion][LEVELS.index(level)],
            balance=self.config.balance,
            min_per_class=self.config.min_per_class,
            seed=seed,
            device=self.device,
        )

    @property
    def epochs(self) -> int:
        """Epochs of all stages."""
        return self.config.all_epochs

    @property
    def stage(self) -> int:
        """Stages that are over; the last one stays the last one."""
        return min(self.epoch // self.config.epochs, self.config.stages - 1)

    @property
    def done(self) -> bool:
        return self.stopped or self.epoch == self.epochs

    @property
    def epoch_steps(self) -> int:
        """Steps of the epoch under way."""
        return batches_in_pass(self.train.size, self.config.batch_size)

    @property
    def epoch_done(self) -> bool:
        """Whether the epoch's pass over the training level is complete."""
        return self.steps > 0 and self.train.sampler.pass_done

    def step(self) -> None:
        """One alpha step on a validation batch, then one weight step on a training batch; with a
        method of one level both on the training batch."""
        compute = self._graphs or _directly
        train = self._train_batch = self.train.next_batch()
        self.method.begin_step(self._step(train))
        alpha_moves = self.epoch % self.config.epochs >= self.config.alpha_start
        if alpha_moves and self.method.levels == 1:
            self._alpha_batch = train
            gradients, loss = compute(self._joint_gradients, train)
            alphas = len(self.supernet.alphas())
            self.precision.step(
                gradients[:alphas],
                self.supernet.alphas(),
                self.alpha_optimizer,
                update_scale=False,
            )
            gradients = gradients[alphas:]
        else:
            # Each level computes its own gradients alone: the alpha step spares those of the
            # weights, the weight step those of alpha.
            if alpha_moves:
                valid = self._alpha_batch = self.valid.next_batch()
                gradients, loss = compute(self._architecture_gradients, train, valid)
                self.valid.observe(valid, loss)
                self.precision.step(gradients, self.supernet.alphas(), self.alpha_optimizer)
            gradients, loss = compute(self._weights_gradients, train)
        self.train.observe(train, loss)
        self.precision.step(
            gradients, self.supernet.weights(), self.weight_optimizer, self.config.clip
        )
        self.method.end_step(self._step(train))
        self.steps += 1
        if self.device.type == "cpu":  # a GPU would be waited for: there at the end of the epoch
            self._check_losses()

    def _check_losses(self) -> None:
        """Raise Diverged if a loss of this epoch was not finite, on either level."""
        self.check_finite("loss", [level.sums for level in self.levels.values()])

    def _step(self, train: Batch) -> Step:
        return Step(
            self.supernet,
            train,
            epoch=self.epoch,
            epochs=self.epochs,
            lr=float(self.schedule.get_last_lr()[0]),
            autocast=self.precision.autocast,
            scale=self.precision.scale,
            forward=self._forward,
        )

    def _architecture_gradients(self, train: Batch, valid: Batch) -> Result:
        return self.method.architecture_gradients(self._step(train), valid)

    def _weights_gradients(self, train: Batch) -> Result:
        return self.method.weights_gradients(self._step(train))

    def _joint_gradients(self, train: Batch) -> Result:
        return self.method.joint_gradients(self._step(train))

    @torch.no_grad()
    def _outputs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, classes], and the features [B, D] that the pruner needs, of an extra forward
        pass that leaves no trace."""
        self.supernet.eval()
        with self.precision.autocast:
            logits = self.supernet(images)
        self.supernet.train()
        features = self._features.of(logits) if self._features else logits[:, :0]
        return logits.float(), features.float()

    def end_epoch(self) -> dict[str, Any]:
        """Close the epoch: record it, prune when it is time, lower the learning rate.

        Returns:
            The epoch's record: sizes, class balance, accuracy and loss of both levels before the
            pruning, the samples that their updates saw, alpha, and the cell it stands for.

        Raises:
            Diverged: a loss, a weight or an alpha is not finite.
        """
        self._check_losses()
        self.check_finite("weight", self.supernet.weights())
        self.check_finite("alpha", self.supernet.alphas())
        self.method.end_epoch(self.supernet, self._epoch())
        record: dict[str, Any] = {"epoch": self.epoch + 1}
        for name, level in self.levels.items():
            record |= {
                name: level.size,
                f"{name}_balance": level.balance,
                f"{name}_accuracy": level.accuracy,
                f"{name}_loss": level.loss,
                f"{name}_seen": level.seen,
            }
        record |= self.derive()
        record |= {"alpha": self.alpha, "lr": self.schedule.get_last_lr()[0]}
        every = self.config.eigenvalue_every
        if every and record["epoch"] % every == 0 and self._alpha_batch is not None:
            record["eigenvalue"] = self._eigenvalue(self._alpha_batch)
        for level in self.levels.values():
            level.end_epoch(
                Passes(
                    partial(level.extra_forward, self._outputs),
                    partial(self.valid.extra_forward, self._outputs),
                )
            )
        for level in self.levels.values():
            level.start_epoch()
        self.schedule.step()
        stage = self.stage
        self.history.append(record)
        self.stopped = self.method.should_stop(self.history)
        if self.stage != stage:
            self._begin_stage()
        else:
            self._begin_epoch()
        return record

    def derive(self) -> dict[str, str]:
        """The cell that alpha stands for (see `Space.derive`)."""
        return self.method.derive(self.space, self.supernet.alphas(), self._past(self.stage))

    def _eigenvalue(self, batch: Batch) -> float:
        """Dominant eigenvalue of a batch's Hessian with respect to alpha, in full precision."""
        step = replace(self._step(self._train_batch).without_autocast(), forward=None)
        try:
            return dominant_eigenvalue(
                lambda: self.method.architecture_loss(step, batch).value,
                self.supernet.alphas(),
            )
        except FloatingPointError as error:
            raise self.diverged("curvature of the loss") from error

    @property
    def alpha(self) -> list[list[list[float]]]:
        """Every alpha as plain numbers."""
        return [alpha.detach().cpu().tolist() for alpha in self.supernet.alphas()]

    def prunings(self) -> list[dict[str, Any]]:
        """Every pruning so far in order of time, with its level and the names of the capped
        classes."""
        rows = [
            {
                "level": name,
                **row,
                "capped_classes": [self.classes[c] for c in row["capped_classes"]],
            }
            for name, level in self.levels.items()
            if level.pruner
            for row in level.pruner.report()
        ]
        return sorted(rows, key=lambda row: int(row["epoch"]))

    def samples(self) -> dict[str, int]:
        """Samples forwarded for each level's updates."""
        return {name: level.forwarded for name, level in self.levels.items()}

    def samples_extra(self) -> dict[str, int]:
        """Samples of each level forwarded for the pruners alone."""
        return {name: level.extra_samples for name, level in self.levels.items()}

    def samples_unpruned(self) -> dict[str, int]:
        """What the same epochs forward without pruning."""
        config = self.config
        epochs = range(self.epoch if self.stopped else config.all_epochs)
        with_valid = [e for e in epochs if e % config.epochs >= config.alpha_start]
        passes = {
            "train": len(epochs),
            "valid": len(with_valid) if self.method.levels == 2 else 0,
        }
        return {
            name: samples_drawn(
                level.samples.numel(),
                config.batch_size,
                self._unpruned_epoch_steps * passes[name],
            )
            for name, level in self.levels.items()
        }

    def spent(self) -> dict[str, float]:
        """Seconds so far, resumed runs added up: wall clock, CPU, and the pruners' CPU seconds:
        scoring, selecting, and extra forward passes."""
        passes = sum(level.extra_seconds for level in self.levels.values())
        return {
            **self.stopwatch.lap(),
            "scoring": sum(level.scoring for level in self.levels.values()),
            "selecting": sum(level.selecting for level in self.levels.values()) - passes,
            "passes": passes,
        }

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "supernet": self.supernet.state_dict(),
            "weight_optimizer": self.weight_optimizer.state_dict(),
            "alpha_optimizer": self.alpha_optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "levels": {name: level.state_dict() for name, level in self.levels.items()},
            "method": self.method.state_dict(),
            "stopped": self.stopped,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._begin_stage()
        self.supernet.load_state_dict(state["supernet"])
        self.weight_optimizer.load_state_dict(state["weight_optimizer"])
        self.alpha_optimizer.load_state_dict(state["alpha_optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        for name, level in self.levels.items():
            level.load_state_dict(state["levels"][name])
        self.method.load_state_dict(state["method"])
        self.stopped = state["stopped"]


def _directly(function: Function, *batches: Batch) -> Result:
    return function(*batches)


def _seeds(seed: int) -> tuple[int, int]:
    """Different random streams for the two levels."""
    first, second = torch.randint(2**62, (2,), generator=torch.Generator().manual_seed(seed))
    return int(first), int(second)
