"""What a search method is: a few named decisions, each with the plain DARTS answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

from bdp_ext.spaces import Space, Supernet
from bdp_ext.spaces.space import Names, softmax

Gradients = Sequence[Tensor | None]
"""Of each parameter; None: it stays as it is."""

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

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy of a batch."""
        with self.autocast:
            logits = (self.forward or self.supernet)(batch.images)
            return Loss(batch.loss(logits), logits)

    def without_autocast(self) -> "Step":
        """In float32: for derivatives of gradients, which half precision has not the digits for."""
        return replace(self, autocast=torch.autocast(self.autocast.device, enabled=False))


def gradients(loss: Tensor, parameters: Sequence[Parameter]) -> Gradients:
    """Of a loss; None where it does not depend on a parameter, as where nothing is chosen that has
    it."""
    if not loss.requires_grad:
        return [None] * len(parameters)
    return torch.autograd.grad(loss, parameters, allow_unused=True)


@contextmanager
def frozen(parameters: Iterable[Parameter]) -> Iterator[None]:
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
    """First-order DARTS; other methods override what they decide in another way.

    A search makes one object, without arguments. What it keeps in attributes is part of the
    search's checkpoint, and so must be tensors and plain values (or `state_dict` says what is).

    Attributes:
        name: as the command line spells it.
        defaults: settings of `SearchConfig` that are usual for this method and differ from the
            space's.
        stages: parts of the search, as long as each other, that have a supernet each.
        levels: 2: alpha on the validation level, weights on the training level; 1: both on each
            batch of the training level, by one loss, and the validation level is not used.
        alpha_start: share of a stage's epochs before the first alpha step.
        skips_zeros: candidates whose weight is zero are not computed, and their weights get no
            gradient; other ones in each forward pass, so neither compiled nor captured.
    """

    name = "method"
    defaults: Mapping[str, Any] = {}
    stages: int = 1
    levels: int = 2
    alpha_start: Fraction = Fraction(0)
    skips_zeros: bool = False

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

    def init_alphas(self, alphas: Sequence[Parameter]) -> None:
        """Give alpha its initial values (under `no_grad`); as they come, they are normal, times
        .001."""

    def alpha_optimizer(
        self, alphas: Sequence[Parameter], *, lr: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """What updates alpha."""
        return torch.optim.Adam(alphas, lr, betas=(0.5, 0.999), weight_decay=weight_decay)

    def candidate_weights(self, alpha: Tensor) -> Tensor:
        """What the candidates of an alpha [edges, candidates] count, in the same shape; asked once
        each forward pass. It may draw from torch's global generator."""
        return softmax(alpha)

    def begin_epoch(self, supernet: Supernet, epoch: Epoch) -> None:
        """Called before each epoch's first step, and again when a search is resumed."""

    def begin_step(self, step: Step) -> None:
        """Called before the updates of a step."""

    def end_step(self, step: Step) -> None:
        """Called after the updates of a step."""

    def end_epoch(self, supernet: Supernet, epoch: Epoch) -> None:
        """Called after each epoch's last step, before the cell is derived."""

    def should_stop(self, history: Sequence[Mapping[str, Any]]) -> bool:
        """Whether the search ends here, ahead of time.

        Args:
            history: the records of all epochs so far (`metrics.jsonl`).
        """
        return False

    def derive(self, space: Space, alphas: Sequence[Tensor], past: Past = ()) -> dict[str, str]:
        """The cell that the alphas stand for (see `Space.derive`)."""
        return space.derive(alphas)

    def names(self, space: Space, alphas: Sequence[Tensor], past: Past = ()) -> Names:
        """What the numbers of the alphas stand for (see `Space.names`)."""
        return space.names(alphas)

    def architecture_loss(self, step: Step, valid: Batch) -> Loss:
        """The loss of a validation batch, what is added to it included."""
        return step.loss(valid)

    def architecture_gradients(self, step: Step, valid: Batch) -> tuple[Gradients, Loss]:
        """The (scaled) gradient for each alpha, and the validation batch's loss."""
        with frozen(step.supernet.weights()):
            loss = self.architecture_loss(step, valid)
            return gradients(step.scale(loss.value), step.supernet.alphas()), loss

    def weights_loss(self, step: Step) -> Loss:
        """The loss of the training batch."""
        return step.loss(step.train)

    def weights_gradients(self, step: Step) -> tuple[Gradients, Loss]:
        """The (scaled) gradient for each weight, and the training batch's loss."""
        with frozen(step.supernet.alphas()):
            loss = self.weights_loss(step)
            return gradients(step.scale(loss.value), step.supernet.weights()), loss

    def joint_gradients(self, step: Step) -> tuple[Gradients, Loss]:
        """With one level: the (scaled) gradient for each alpha, then for each weight."""
        loss = self.weights_loss(step)
        parameters = [*step.supernet.alphas(), *step.supernet.weights()]
        return gradients(step.scale(loss.value), parameters), loss

    def state_dict(self) -> dict[str, Any]:
        """What the object keeps, for a checkpoint: tensors and plain values."""
        return dict(vars(self))

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        vars(self).update(state)
