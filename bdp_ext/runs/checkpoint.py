"""Checkpoints of a job: written atomically, read with `weights_only=True`, refused when they are
not ours."""

import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bdp_ext.errors import UserError
from bdp_ext.runs.files import write_atomically
from bdp_ext.runs.job import Job


def save(path: Path, job: Job[Any]) -> None:
    """Write the whole state of a job, the random generators of torch, numpy and python included."""
    state = {
        "format": file_format(job.kind),
        "config": asdict(job.config),
        job.kind: job.state_dict(),
        "random": _random_state(),
    }
    write_atomically(path, lambda file: torch.save(state, file))


def read(path: Path, kind: str) -> dict[str, Any]:
    """The contents of a checkpoint, tensors on the CPU.

    Args:
        kind: of the job that wrote it.

    Raises:
        UserError: truncated, damaged or foreign. The file is left as it is.
    """
    advice = "it was left as it is; move it away to start again"
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in zipfile, pickle or torch
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"{path} is damaged or no checkpoint ({reason[:120]}); {advice}."
        ) from error
    if not isinstance(state, dict) or state.get("format") != file_format(kind):
        raise UserError(f"{path} is not a {kind}'s checkpoint of this version of bdp; {advice}.")
    return state


def restore(state: dict[str, Any], job: Job[Any]) -> None:
    """Bring a freshly made job to the state that `read` returned.

    Raises:
        UserError: the checkpoint is of other settings or other images.
    """
    changed = job.config.differences(state["config"])
    if changed:
        raise UserError(
            f"this run was started with other values of {', '.join(changed)}; "
            "leave them out to resume it, or start another --out."
        )
    job.load_state_dict(state[job.kind])
    _set_random_state(state["random"])


def file_format(kind: str) -> str:
    """What a checkpoint of this version says it is."""
    return f"bdp_ext {kind} 2"


def _random_state() -> dict[str, Any]:
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, torch.from_numpy(np.asarray(keys).copy()), position, has_gauss, gauss),
        "python": random.getstate(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.numpy(), *rest))
    random.setstate(state["python"])
