"""The settings of a retraining: the command line's options, `config.json`, and what a checkpoint is
checked against."""

import math
from dataclasses import dataclass
from typing import Any

from bdp_ext.data import NAMES
from bdp_ext.errors import UserError
from bdp_ext.runs.plugins import required
from bdp_ext.runs.settings import (
    BATCH,
    CELLS,
    CHANNELS,
    DECAY,
    EPOCHS,
    EPOCHS_OR_NONE,
    NORM,
    PROBABILITY,
    RATE,
    SHARE,
    Settings,
    setting,
)
from bdp_ext.spaces import IMAGENET_FROM, SPACES, Space, find_space

GENOTYPE = (
    "A search's --out or its result.json, a text file, an architecture's string, or a published "
    "name such as DARTS_V2."
)
SPACE = f"{', '.join(SPACES)}, or package.module:Name of your own."
OPTIMIZERS = ("sgd", "rmsprop")
LR_SCHEDULES = ("cosine", "linear", "step")


@dataclass(frozen=True, kw_only=True)
class RetrainConfig(Settings):
    """Settings of one retraining; the defaults are DARTS's on CIFAR (`of` knows the protocols of
    the spaces)."""

    genotype: str = setting(GENOTYPE, unset="with --resume the run's own")
    space: str = setting(SPACE, unset="the architecture's")
    protocol: str = setting(
        "Whose defaults and which strides: cifar, or, for images of "
        f"{IMAGENET_FROM} pixels or more, imagenet, where the space has it.",
        "cifar",
    )
    data: str = setting(
        f"{', '.join(NAMES)}, or a folder with train/<class>/ and test/<class>/ images.", "cifar10"
    )
    epochs: int = setting("Epochs.", 600, EPOCHS)
    channels: int = setting("Channels of the first stage.", 36, CHANNELS)
    cells: int = setting(
        "Cells, of the whole network or of a stage, as the space has it.",
        20,
        CELLS,
    )
    batch_size: int = setting("Samples a step.", 96, BATCH)
    optimizer: str = setting("rmsprop is TensorFlow's.", "sgd", OPTIMIZERS)
    lr: float = setting("Learning rate; it goes with the batch size.", 0.025, RATE)
    lr_schedule: str = setting(
        "cosine and linear end at 0; step multiplies by --lr-decay.",
        "cosine",
        LR_SCHEDULES,
    )
    lr_decay: float = setting("What step multiplies it by.", 0.97, SHARE)
    lr_decay_epochs: int = setting("Epochs between that.", 1, EPOCHS)
    warmup: int = setting("Epochs in which it rises to --lr.", 0, EPOCHS_OR_NONE)
    momentum: float = setting("Of the optimizer.", 0.9, PROBABILITY)
    nesterov: bool = setting("Nesterov's momentum.", False)
    weight_decay: float = setting("Weight decay.", 3e-4, DECAY)
    decay_all: bool = setting(
        "Weight decay on biases and batch norms too.", True, off="--decay-weights"
    )
    clip: float = setting("Largest norm of the gradient; 0: none.", 5.0, NORM)
    label_smoothing: float = setting(
        "Share of a label that goes to all classes alike.", 0.0, PROBABILITY
    )
    auxiliary: float = setting("Weight of the auxiliary head's loss; 0: no head.", 0.4, DECAY)
    drop_path: float = setting(
        "Probability of dropping a path at the end; it rises linearly from 0.", 0.2, PROBABILITY
    )
    dropout: float = setting(
        "Probability of dropping a feature before the classifier.", 0.0, PROBABILITY
    )
    cutout: float = setting(
        "Side of the blanked square, as a share of the image's: .5 is the 16 pixels of CIFAR.",
        0.5,
        PROBABILITY,
    )
    ema: float = setting(
        "Decay of the weights' moving average, which then is tested and saved; 0: none.",
        0.0,
        PROBABILITY,
    )
    evaluate_every: int = setting(
        "Epochs between tests; the last epoch is tested in any case.", 1, EPOCHS
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        space = find_trained_space(self.space)
        if self.protocol not in space.retraining:
            raise UserError(
                f"--protocol {self.protocol} is none of the {self.space} space, "
                f"which has {', '.join(space.retraining)}."
            )
        if self.nesterov and not self.momentum:
            raise UserError("--nesterov needs a --momentum above 0.")
        try:
            space.graph(self.genotype)
        except ValueError as error:
            raise UserError(f"--genotype: {error}") from error

    @classmethod
    def of(cls, **given: Any) -> "RetrainConfig":
        """The settings given, and for the others what is usual for the space and the protocol."""
        space = find_trained_space(given["space"])
        usual = space.retraining.get(given.get("protocol", cls.protocol), {})
        return cls(**{**usual, **given})

    @property
    def size(self) -> dict[str, Any]:
        """What `Space.network` is told of the network's size, apart from the classes."""
        imagenet = self.protocol == "imagenet"
        return {"channels": self.channels, "cells": self.cells, "imagenet": imagenet}

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


def find_trained_space(name: str) -> Space:
    """A space by its name as `find_space` does, whose networks can be trained.

    Raises:
        UserError: there is none.
    """
    return required("space", name, find_space(name), ("retraining", "network", "graph"))


def usual_protocol(space: str, image_size: int) -> str:
    """The protocol for images of this height and width."""
    protocols = find_trained_space(space).retraining
    wanted = "imagenet" if image_size >= IMAGENET_FROM else "cifar"
    return wanted if wanted in protocols else next(iter(protocols))
