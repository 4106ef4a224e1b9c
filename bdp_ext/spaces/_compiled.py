"""Where the compiled convolutions can compute at all; who wins there is each module's to say."""

import torch
from torch import Tensor


def takes(input: Tensor, weight: Tensor) -> bool:
    """float32 in channels_last on the CPU, and no autocast to do it in another type."""
    return (
        input.device.type == "cpu"
        and input.dtype == weight.dtype == torch.float32
        and input.is_contiguous(memory_format=torch.channels_last)
        and not torch.is_autocast_enabled("cpu")
    )
