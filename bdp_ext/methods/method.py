"""What a search method is: a few named steps, each with the plain DARTS answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

from bdp_ext.spaces import Space, Supernet
from bdp_ext.spaces.space import Names

Past = Sequence[Sequence[Tensor]]
"""Of each stage that is over, its alphas at the end."""


@dataclass(frozen=True)
class Batch:
    """Samples of one level."""

    index: Tensor  # [B] int64, CPU, the samples' numbers in their level
    images: Tensor  # [B, 3, H, W] float32
    target: Tensor  # [B] int64
    weight: Tensor | None = None  # [B] float32, of each sample's loss; None: all alike

    def loss(self, logits: Tensor) -> Tensor:
        """Mean cross-entropy."""
        if self.weight is None:
            return cross_entropy(logits, self.target)
        return (cross_entropy(logits, self.target, reduction="none") * self.weight).mean()


class Loss(NamedTuple):
    """A loss and the logits it came from, by which the pruner scores the batch."""

    value: Tensor  # []
    logits: Tensor  # [B, classes]


@dataclass(frozen=True)
class Epoch:
    """Where in the search an epoch is.

    Attributes:
        stage: stages that are over.
        number: epochs of this stage that are over.
        epochs: of this stage.
        alpha_start: epochs of this stage before its first alpha step.
    """

    stage: int
    number: int
    epochs: int
    alpha_start: int


@dataclass(frozen=True)
class Step:
    """One step of the search, as the loop hands it to the method.

    Attributes:
        supernet: at its current weights and alphas.
        train: the batch of D_T that the weight step takes.
        epoch: epochs that are over.
        epochs: of the whole search.
        lr: learning rate of the weights.
        autocast: the precision of forward passes.
        scale: what a loss must pass through before its gradient is taken (float16's loss scaling).
        forward: computes the supernet's forward pass, differentiable once; None: the supernet
            itself does, differentiable any number of times.
    """

    supernet: Supernet
    train: Batch
    epoch: int
    epochs: int
    lr: float
    autocast: torch.autocast
    scale: Callable[[Tensor], Tensor]
    forward: Callable[[Tensor], Tensor] | None = None

    def classify(self, batch: Batch) -> Loss:
        """Cross-entropy of a batch."""
        with self.autocast:
            logits = (self.forward or self.supernet)(batch.images)
            return Loss(batch.loss(logits), logits)


@contextmanager
def constant(parameters: Iterable[Parameter]) -> Iterator[None]:
    """Parameters that need no gradient for a while, so that no operation computes one."""
    changed = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in changed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in changed:
            parameter.requires_grad_(True)


class Method:
    """First-order DARTS; other methods override the steps in which they differ.

    Attributes:
        name: as the command line spells it.
        defaults: settings of `SearchConfig` that are usual for this method and differ from the
            space's.
        stages: parts of the search, as long as each other, that have a supernet each.
    """

    name = "method"
    defaults: Mapping[str, Any] = {}
    stages: int = 1

    def supernet(
        self, space: Space, *, channels: int, cells: int, classes: int, past: Past = ()
    ) -> Supernet:
        """The network to search in.

        Args:
            past: of each stage that is over, its alphas at the end.

        Raises:
            UserError: the method does not work on this space.
        """
        return space.supernet(channels=channels, cells=cells, classes=classes)

    def begin_epoch(self, supernet: Supernet, epoch: Epoch) -> None:
        """Called before each epoch's first step, and again when a search is resumed."""

    def derive(self, space: Space, alphas: Sequence[Tensor], past: Past = ()) -> dict[str, str]:
        """The cell that the alphas stand for (see `Space.derive`)."""
        return space.derive(alphas)

    def names(self, space: Space, alphas: Sequence[Tensor], past: Past = ()) -> Names:
        """What the numbers of the alphas stand for (see `Space.names`)."""
        return space.names(alphas)

    def architecture_loss(self, step: Step, valid: Batch) -> Loss:
        """The loss of a validation batch, what is added to it included."""
        return step.classify(valid)

    def architecture_gradients(self, step: Step, valid: Batch) -> tuple[Sequence[Tensor], Loss]:
        """The (scaled) gradient for each alpha, and the validation batch's loss."""
        with constant(step.supernet.weights()):
            loss = self.architecture_loss(step, valid)
            return torch.autograd.grad(step.scale(loss.value), step.supernet.alphas()), loss

    def weights_loss(self, step: Step) -> Loss:
        """The loss of the training batch."""
        return step.classify(step.train)
