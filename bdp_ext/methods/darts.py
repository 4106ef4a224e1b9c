"""DARTS (arXiv 1806.09055), first and second order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Parameter

from bdp_ext.methods.method import Batch, Loss, Method, Step, constant

FINITE_DIFFERENCE = 0.01
"""The perturbation's length, as in the authors' code: epsilon = 0.01 / |v|."""


class Darts(Method):
    """First order: alpha goes down the validation loss at the weights as they are."""

    name = "darts"


class SecondOrderDarts(Method):
    """Second order: alpha goes down the validation loss one weight step ahead.

    With w' = w - xi grad_w L_train(w, alpha) and v = grad_w' L_val(w', alpha):

        grad_alpha L_val(w', alpha) - xi * d/d alpha (grad_w L_train(w, alpha) . v)

    The second term is a central finite difference along v (Eq. 7 and 8).
    """

    name = "darts-2nd"

    def architecture_gradients(self, step: Step, valid: Batch) -> tuple[Sequence[Tensor], Loss]:
        weights, alphas = step.supernet.weights(), step.supernet.alphas()
        with constant(alphas):
            descent = torch.autograd.grad(step.scale(step.classify(step.train).value), weights)
        # float64: the rounding of a float32 step would be the largest error here.
        one = torch.ones((), dtype=torch.float64, device=descent[0].device)
        with moved(weights, descent, -step.lr / step.scale(one)):
            loss = self.architecture_loss(step, valid)
            gradients = torch.autograd.grad(step.scale(loss.value), [*alphas, *weights])
        direct, ahead = gradients[: len(alphas)], gradients[len(alphas) :]

        # `ahead` is scaled and so is the difference along it: epsilon divides its length out again.
        epsilon = FINITE_DIFFERENCE / torch.nn.utils.get_total_norm(ahead).clamp(min=1e-12)
        ends = []
        for sign in (1, -1):
            with moved(weights, ahead, sign * epsilon), constant(weights):
                train = step.classify(step.train).value
                ends.append(torch.autograd.grad(train, alphas))
        curved = [(plus - minus) / (2 * epsilon) for plus, minus in zip(*ends, strict=True)]
        return [d - step.lr * c for d, c in zip(direct, curved, strict=True)], loss


class ExactSecondOrderDarts(Method):
    """The same gradient without epsilon: autograd goes through the weight step itself.

    Takes the memory of a graph over three passes.
    """

    name = "darts-2nd-exact"

    def architecture_gradients(self, step: Step, valid: Batch) -> tuple[Sequence[Tensor], Loss]:
        own = {id(weight) for weight in step.supernet.weights()}
        named = {n: w for n, w in step.supernet.named_parameters() if id(w) in own}
        train = replace(step, forward=None).classify(step.train).value
        descent = torch.autograd.grad(train, list(named.values()), create_graph=True)
        ahead = {n: named[n] - step.lr * d for n, d in zip(named, descent, strict=True)}
        one_ahead = partial(functional_call, step.supernet, ahead)
        loss = replace(step, forward=one_ahead).classify(valid)
        return torch.autograd.grad(step.scale(loss.value), step.supernet.alphas()), loss


@contextmanager
def moved(weights: Sequence[Parameter], direction: Sequence[Tensor], by: Tensor) -> Iterator[None]:
    """The weights moved along a direction; afterwards they are exactly as they were."""
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight, along in zip(weights, direction, strict=True):
            weight.add_(along * by)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, old in zip(weights, before, strict=True):
                weight.copy_(old)
