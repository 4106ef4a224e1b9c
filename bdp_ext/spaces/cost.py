"""What a network costs: parameters and multiply-adds."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """What a network or a part of it costs; costs add up.

    Attributes:
        parameters: trained numbers.
        multiply_adds: of one image.
    """

    parameters: int
    multiply_adds: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


def cost(network: nn.Module, channels: int, size: int) -> Cost:
    """The cost of a network or of a part whose input is channels x size x size."""
    return Cost(parameters(network), multiply_adds(network, size, channels))


def parameters(network: nn.Module) -> int:
    """Trained numbers, an auxiliary head's left out, since it does not stay."""
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith("auxiliary")
    )


def multiply_adds(network: nn.Module, image_size: int, channels: int = 3) -> int:
    """Multiply-adds of convolutions and linear layers for one image of channels x size x size.

    A linear layer's bias counts one for each output, as in NAS-Bench-201's table.
    """
    training = network.training
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, channels, image_size, image_size, device=device))
    network.train(training)
    biases = sum(
        module.out_features
        for module in network.modules()
        if isinstance(module, nn.Linear) and module.bias is not None
    )
    operations = int(counter.get_total_flops())  # a multiply-add is two of them
    return operations // 2 + biases
