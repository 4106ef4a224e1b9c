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
        settings = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "alpha": alpha,
            "eps": eps,
        }
        super().__init__(parameters, settings)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # takes no closure
        """One update by the gradients that are there."""
        for group in self.param_groups:
            alpha, momentum = group["alpha"], group["momentum"]
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients = torch._foreach_add(
                [p.grad for p in parameters], parameters, alpha=group["weight_decay"]
            )
            for parameter in parameters:
                if not self.state[parameter]:
                    self.state[parameter] = {
                        "square": torch.ones_like(parameter),
                        "momentum": torch.zeros_like(parameter),
                    }
            squares = [self.state[p]["square"] for p in parameters]
            momenta = [self.state[p]["momentum"] for p in parameters]
            torch._foreach_mul_(squares, alpha)
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - alpha)
            scales = torch._foreach_add(squares, group["eps"])
            torch._foreach_sqrt_(scales)
            torch._foreach_mul_(momenta, momentum)
            torch._foreach_addcdiv_(momenta, gradients, scales, group["lr"])
            torch._foreach_sub_(parameters, momenta)
