"""RMSProp as TensorFlow computes it, for which mobile networks' recipes are tuned."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter


class TensorFlowRMSprop(torch.optim.Optimizer):
    """v <- a v + (1 - a) g^2 from v = 1;  m <- mu m + lr g / sqrt(v + eps);  w <- w - m.

    torch's RMSprop begins at v = 0, adds eps outside of the root and multiplies by lr after the
    momentum: with eps = .001 and gradients of .001 its steps are more than ten times as long.

    Args:
        parameters: tensors, or groups of them with settings of their own.
        lr: learning rate.
        momentum: mu.
        weight_decay: times w, added to g.
        alpha: a.
        eps: as above.
    """

    def __init__(
        self,
        parameters: Iterable[Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        alpha: float = 0.9,
        eps: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, {**defaults, "alpha": alpha, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """One update by the gradients that are there."""
        for group in self.param_groups:
            alpha = group["alpha"]
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["square"] = torch.ones_like(weight)
                    state["momentum"] = torch.zeros_like(weight)
                gradient = weight.grad.add(weight, alpha=group["weight_decay"])
                square = state["square"].mul_(alpha).addcmul_(gradient, gradient, value=1 - alpha)
                scale = square.add(group["eps"]).sqrt_()
                momentum = state["momentum"].mul_(group["momentum"])
                weight.sub_(momentum.addcdiv_(gradient, scale, value=group["lr"]))
