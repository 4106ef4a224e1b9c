"""Trained networks as safetensors files that say what they are the weights of."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from bdp_ext.errors import UserError
from bdp_ext.retrain.config import find_trained_space
from bdp_ext.retrain.loop import Retrain
from bdp_ext.runs.files import write_atomically
from bdp_ext.runs.plugins import refuse_foreign

METADATA = "bdp_ext"


def save_network(job: Retrain, path: Path) -> None:
    """Write a retraining's weights, its auxiliary head left out.

    The same retraining gives the same file, byte for byte. `read_metadata` lists what it says.
    """
    tensors = {
        name: tensor.cpu().contiguous()
        for name, tensor in job.trained.state_dict().items()
        if not name.startswith("auxiliary")
    }
    config = job.config
    metadata = {
        "space": config.space,
        "genotype": config.genotype,
        **config.size,
        "classes": job.classes,
        "image_size": job.image_size,
        "mean": job.mean,
        "std": job.std,
    }
    # One entry: safetensors writes several in a random order.
    entry = {METADATA: json.dumps(metadata)}
    write_atomically(path, lambda file: file.write(save(tensors, entry)))


def read_metadata(path: Path | str) -> dict[str, Any]:
    """What a file that `save_network` wrote says about its weights.

    Returns:
        `space`, `genotype`, `channels`, `cells` and `imagenet`, which `Space.network` takes;
        `classes`, the names in the order of the logits; `image_size`, and `mean` and `std` of the
        pixels in 0..1, which images are to be brought to.

    Raises:
        UserError: no such file, or not such a file.
    """
    return _read(path)[0]


def load_network(path: Path | str, space: str | None = None) -> nn.Module:
    """Build the network of a file that `save_network` wrote.

    Args:
        space: of the user's own, as `package.module:Name`, where the network is of one: a file
            alone never imports code.

    Returns:
        The trained network in evaluation mode, on the CPU, channels_last: images [B, 3, H, W]
        float32, normalised with the metadata's mean and std -> logits [B, classes].

    Raises:
        UserError: no such file, or not such a file.
    """
    metadata, tensors = _read(path)
    refuse_foreign(metadata, [space], path)
    try:
        network = find_trained_space(metadata["space"]).network(
            metadata["genotype"],
            channels=metadata["channels"],
            cells=metadata["cells"],
            classes=len(metadata["classes"]),
            imagenet=metadata["imagenet"],
            auxiliary=False,
        )
        network.load_state_dict(tensors)
    except (UserError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise _foreign(path, error) from error
    return network.eval().to(memory_format=torch.channels_last)


def _read(path: Path | str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(json.loads((file.metadata() or {})[METADATA]))
            return metadata, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _foreign(path, error) from error


def _foreign(path: Path | str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0]
    return UserError(f"{path} holds no network of a retraining ({reason[:120]}).")
