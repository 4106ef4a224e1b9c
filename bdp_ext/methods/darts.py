"""DARTS (arXiv 1806.09055), first and second order."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Parameter

from bdp_ext.methods.method import Batch, Gradients, Loss, Method, Step, frozen, gradients

FINITE_DIFFERENCE = 0.01
"""The perturbation's length, as in the authors' code: epsilon = 0.01 / |v|."""


class Darts(Method):
    """First order: alpha goes down the validation loss at the weights as they are."""

    name = "darts"


class SecondOrderDarts(Method):
    """Second order: alpha goes down the validation loss one weight step ahead.

    With w' = w - xi grad_w L_train(w, alpha) and v = grad_w' L_val(w', alpha):

        grad_alpha L_val(w', alpha) - xi * d/d alpha (grad_w L_train(w, alpha) . v)

    The second term is a central finite difference along v (Eq. 7 and 8), in float32: the two
    gradients agree in more digits than half precision has.
    """

    name = "darts-2nd"

    def architecture_gradients(self, step: Step, valid: Batch) -> tuple[Gradients, Loss]:
        weights, alphas = step.supernet.weights(), step.supernet.alphas()
        with frozen(alphas):
            train = step.scale(step.loss(step.train).value)
            descent = torch.autograd.grad(train, weights, materialize_grads=True)
        # float64: the rounding of a float32 step would be the largest error here.
        one = torch.ones((), dtype=torch.float64, device=descent[0].device)
        with shifted(weights, descent, -step.lr / step.scale(one)):
            loss = self.architecture_loss(step, valid)
            found = torch.autograd.grad(
                step.scale(loss.value), [*alphas, *weights], materialize_grads=True
            )
        direct, ahead = found[: len(alphas)], found[len(alphas) :]

        # `ahead` is scaled and so is the difference along it: epsilon divides its length out again.
        epsilon = FINITE_DIFFERENCE / torch.nn.utils.get_total_norm(ahead).clamp(min=1e-12)
        ends, precise = [], step.without_autocast()
        for sign in (1, -1):
            with shifted(weights, ahead, sign * epsilon), frozen(weights):
                train = precise.loss(step.train).value
                ends.append(torch.autograd.grad(train, alphas, materialize_grads=True))
        curved = [(plus - minus) / (2 * epsilon) for plus, minus in zip(*ends, strict=True)]
        return [d - step.lr * c for d, c in zip(direct, curved, strict=True)], loss


class ExactSecondOrderDarts(Method):
    """The same gradient without epsilon: autograd goes through the weight step itself.

    Takes the memory of a graph over three passes. The training batch's, which is differentiated
    twice, is in float32.
    """

    name = "darts-2nd-exact"

    def architecture_gradients(self, step: Step, valid: Batch) -> tuple[Gradients, Loss]:
        own = {id(weight) for weight in step.supernet.weights()}
        named = {n: w for n, w in step.supernet.named_parameters() if id(w) in own}
        train = replace(step.without_autocast(), forward=None).loss(step.train).value
        descent = torch.autograd.grad(
            train, list(named.values()), create_graph=True, materialize_grads=True
        )
        ahead = {n: named[n] - step.lr * d for n, d in zip(named, descent, strict=True)}
        one_ahead = partial(functional_call, step.supernet, ahead)
        loss = replace(step, forward=one_ahead).loss(valid)
        return gradients(step.scale(loss.value), step.supernet.alphas()), loss


@contextmanager
def shifted(
    weights: Sequence[Parameter], direction: Sequence[Tensor], by: Tensor
) -> Iterator[None]:
    """The weights shifted along a direction; afterwards they are exactly as they were."""
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
