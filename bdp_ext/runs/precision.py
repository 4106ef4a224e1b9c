"""Mixed precision: the forward passes in half precision, gradients scaled where half means
float16."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter


class Precision:
    """Autocast, and the optimiser step that goes with it.

    bfloat16 where the device computes in it; float16 with loss scaling elsewhere (V100).
    """

    def __init__(self, device: torch.device, enabled: bool) -> None:
        half = torch.bfloat16
        if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
            half = torch.float16
        self.autocast = torch.autocast(device.type, dtype=half, enabled=enabled)
        self._scaler = torch.amp.GradScaler(device.type, enabled=enabled and half is torch.float16)

    def scale(self, loss: Tensor) -> Tensor:
        """What a loss's gradient is taken of."""
        scaled: Tensor = self._scaler.scale(loss)
        return scaled

    def step(
        self,
        gradients: Sequence[Tensor | None],
        parameters: Sequence[Parameter],
        optimizer: torch.optim.Optimizer,
        clip: float | None = None,
        update_scale: bool = True,
    ) -> None:
        """One update of `parameters` down the gradients of a scaled loss.

        Args:
            gradients: None: the parameter stays as it is.
            clip: largest norm of the gradient; None: as it is.
            update_scale: False where more gradients of the same backward pass are to come.
        """
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self._scaler.unscale_(optimizer)
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        self._scaler.step(optimizer)
        if update_scale:
            self._scaler.update()
        optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        return self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state:
            self._scaler.load_state_dict(state)
