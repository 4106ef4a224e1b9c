"""The settings of a retraining: the command line's options, `config.json`, and what a checkpoint is
checked against."""

import math
from dataclasses import dataclass
from typing import Any

from bdp_ext.errors import UserError
from bdp_ext.runs.settings import Settings
from bdp_ext.spaces import IMAGENET_FROM, SPACES

OPTIMIZERS = ("sgd", "rmsprop")
LR_SCHEDULES = ("cosine", "linear", "step")


@dataclass(frozen=True, kw_only=True)
class RetrainConfig(Settings):
    """Settings of one retraining; the defaults are DARTS's on CIFAR (`of` knows the protocols of
    the spaces).

    Attributes:
        genotype: the architecture, in its space's string form.
        protocol: "imagenet" also chooses the network's strides.
        channels, cells: width and depth of the network, as `Space.network` takes them.
        optimizer: "rmsprop" is TensorFlow's.
        lr_schedule: "cosine" and "linear" end at 0; "step" multiplies by `lr_decay` every
            `lr_decay_epochs` epochs.
        warmup: epochs in which the learning rate rises linearly to `lr`.
        decay_all: weight decay on biases and batch norms too.
        clip: largest norm of the gradient; 0: none.
        auxiliary: weight of the auxiliary head's loss; 0: no head.
        drop_path: probability at the end; it rises linearly from 0.
        dropout: probability before the classifier.
        cutout: side of the square that is blanked, as a share of the image's: .5 is the 16 pixels
            of CIFAR.
        ema: decay of the moving average of the weights, which then is what is tested and saved;
            0: none.
        evaluate_every: epochs between tests; the last epoch is tested in any case.

    Raises:
        UserError: a value outside its range, or no architecture of the space.
    """

    space: str
    genotype: str
    protocol: str = "cifar"
    data: str = "cifar10"
    epochs: int = 600
    channels: int = 36
    cells: int = 20
    batch_size: int = 96
    optimizer: str = "sgd"
    lr: float = 0.025
    lr_schedule: str = "cosine"
    lr_decay: float = 0.97
    lr_decay_epochs: int = 1
    warmup: int = 0
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4
    decay_all: bool = True
    clip: float = 5.0
    label_smoothing: float = 0.0
    auxiliary: float = 0.4
    drop_path: float = 0.2
    dropout: float = 0.0
    cutout: float = 0.5
    ema: float = 0.0
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        self.require_one_of("space", SPACES)
        self.require_one_of("optimizer", OPTIMIZERS)
        self.require_one_of("lr_schedule", LR_SCHEDULES)
        protocols = SPACES[self.space].retraining
        if self.protocol not in protocols:
            raise UserError(
                f"--protocol {self.protocol} is none of the {self.space} space, "
                f"which has {', '.join(protocols)}."
            )
        self.require_at_least(
            1, "epochs", "channels", "cells", "batch_size", "lr_decay_epochs", "evaluate_every"
        )
        self.require_at_least(1, "image_size", "limit_train", "threads")
        self.require_at_least(
            0, "lr", "lr_decay", "warmup", "momentum", "weight_decay", "clip", "auxiliary"
        )
        for name in ("label_smoothing", "drop_path", "dropout", "cutout", "ema"):
            self.require_share(name)
        try:
            SPACES[self.space].graph(self.genotype)
        except ValueError as error:
            raise UserError(f"--genotype: {error}") from error

    @classmethod
    def of(cls, **given: Any) -> "RetrainConfig":
        """The settings given, and for the others what is usual for the space and the protocol."""
        space = SPACES.get(given["space"])
        usual = space.retraining.get(given.get("protocol", cls.protocol), {}) if space else {}
        return cls(**{**usual, **given})

    def learning_rate(self, epoch: int) -> float:
        """The learning rate in an epoch, counted from 0."""
        if epoch < self.warmup:
            return self.lr * (epoch + 1) / self.warmup
        if self.lr_schedule == "step":
            return float(self.lr * self.lr_decay ** (epoch // self.lr_decay_epochs))
        done = epoch / self.epochs
        if self.lr_schedule == "linear":
            return self.lr * (1 - done)
        return self.lr * (1 + math.cos(math.pi * done)) / 2


def usual_protocol(space: str, image_size: int) -> str:
    """The protocol for images of this height and width."""
    wanted = "imagenet" if image_size >= IMAGENET_FROM else "cifar"
    return wanted if wanted in SPACES[space].retraining else next(iter(SPACES[space].retraining))
