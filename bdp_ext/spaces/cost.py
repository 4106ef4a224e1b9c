"""What a network costs: parameters and multiply-adds."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    """Trained numbers, an auxiliary head's left out, since it does not stay."""
    return sum(
        parameter.numel()
        for name, parameter in network.named_parameters()
        if not name.startswith("auxiliary")
    )


def multiply_adds(network: nn.Module, image_size: int) -> int:
    """Multiply-adds of convolutions and linear layers for one image [3, image_size, image_size].

    A linear layer's bias counts one for each output, as in NAS-Bench-201's table.
    """
    training = network.training
    device = next(network.parameters()).device
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 3, image_size, image_size, device=device))
    network.train(training)
    biases = sum(
        module.out_features
        for module in network.modules()
        if isinstance(module, nn.Linear) and module.bias is not None
    )
    operations = int(counter.get_total_flops())  # a multiply-add is two of them
    return operations // 2 + biases
