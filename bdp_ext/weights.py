"""Trained networks as safetensors files that say what they are the weights of."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from bdp_ext.errors import UserError
from bdp_ext.files import write_atomically
from bdp_ext.retrain import Retrain
from bdp_ext.spaces import SPACES


def save_network(job: Retrain, path: Path) -> None:
    """Write a retraining's weights, its auxiliary head left out.

    The file's metadata, strings of JSON but for the first two: `space`, `genotype`; `channels`,
    `cells`, `imagenet`, what `Space.network` needs beside them; `classes`, the names in the order
    of the logits; `image_size`, `mean`, `std`, what an image has to be brought to.
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
        "channels": json.dumps(config.channels),
        "cells": json.dumps(config.cells),
        "imagenet": json.dumps(config.protocol == "imagenet"),
        "classes": json.dumps(job.classes),
        "image_size": json.dumps(job.image_size),
        "mean": json.dumps(job.mean),
        "std": json.dumps(job.std),
    }
    write_atomically(path, lambda file: file.write(save(tensors, metadata)))


def load_network(path: Path | str) -> nn.Module:
    """Build the network of a file that `save_network` wrote.

    Returns:
        The trained network in evaluation mode, on the CPU, channels_last: images [B, 3, H, W]
        float32, normalised with the metadata's mean and std -> logits [B, classes].

    Raises:
        UserError: no such file, or not such a file.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        network = SPACES[metadata["space"]].network(
            metadata["genotype"],
            channels=json.loads(metadata["channels"]),
            cells=json.loads(metadata["cells"]),
            classes=len(json.loads(metadata["classes"])),
            imagenet=json.loads(metadata["imagenet"]),
            auxiliary=False,
        )
        network.load_state_dict(tensors)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} holds no network of a retraining ({reason[:120]}).") from error
    return network.eval().to(memory_format=torch.channels_last)
