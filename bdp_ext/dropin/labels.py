"""The labels of a data set, and which of its samples a loader draws."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

ATTRIBUTES = ("targets", "labels", "train_labels", "_labels", "label", "target", "y")


def labels_of(dataset: Any, given: Any, level: str) -> Tensor:
    """[len(dataset)] int64, the class of every sample.

    Args:
        dataset: map-style.
        given: what the user passed as labels for this level, or None: they are looked for in the
            data set, and in the data sets inside it.
        level: "train" or "valid", for the message.

    Raises:
        ValueError: there are none.
    """
    labels = as_labels(given, len(dataset)) if given is not None else find_labels(dataset)
    if labels is None:
        where = (
            f"what was passed has no class for each of its {len(dataset)} samples"
            if given is not None
            else f"it has none of the attributes {', '.join(ATTRIBUTES)} nor (..., label) pairs"
        )
        raise ValueError(
            f"bdp_ext.prune: the labels of the {level} data set {type(dataset).__name__} cannot be "
            f"found ({where}); pass labels=(train_labels, valid_labels), one class per sample."
        )
    return labels


def find_labels(dataset: Any) -> Tensor | None:
    """The labels that the data set, or one it is made of, keeps; None when there are none."""
    if isinstance(dataset, Subset):
        labels = find_labels(dataset.dataset)
        return None if labels is None else labels[torch.as_tensor(dataset.indices).long()]
    if isinstance(dataset, ConcatDataset):
        parts = [find_labels(part) for part in dataset.datasets]
        found = [part for part in parts if part is not None]
        return torch.cat(found) if len(found) == len(parts) else None
    if isinstance(dataset, TensorDataset):
        return as_labels(dataset.tensors[-1], len(dataset))
    for name in ATTRIBUTES:
        labels = as_labels(getattr(dataset, name, None), len(dataset))
        if labels is not None:
            return _transformed(dataset, labels)
    for samples in getattr(dataset, "__dict__", {}).values():  # as [(path, label), ...]
        if isinstance(samples, list) and samples and isinstance(samples[0], (tuple, list)):
            labels = as_labels([sample[-1] for sample in samples], len(dataset))
            if labels is not None:
                return _transformed(dataset, labels)
    inner = [part for part in inner_datasets(dataset).values() if len(part) == len(dataset)]
    return find_labels(inner[0]) if len(inner) == 1 else None


def as_labels(values: Any, length: int) -> Tensor | None:
    """`values` as [length] int64 classes; None when they are none."""
    if values is None or callable(values) or isinstance(values, str):
        return None
    try:
        labels = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        return None
    if labels.numel() != length or labels.is_floating_point() or labels.is_complex():
        return None
    labels = labels.detach().cpu().reshape(-1).long()
    return labels if bool((labels >= 0).all()) else None


def inner_datasets(dataset: Any) -> dict[str, Any]:
    """The map-style data sets that a data set keeps as attributes, by name."""
    return {
        name: value
        for name, value in getattr(dataset, "__dict__", {}).items()
        if isinstance(value, Dataset) and hasattr(value, "__len__")
    }


def members_of(
    loader: DataLoader[Any], given: Sequence[int] | None, level: str
) -> tuple[Tensor, bool]:
    """The samples of its data set that a loader draws.

    Args:
        given: what the user passed as indices for this level, or None: the sampler tells.

    Returns:
        members: [n] int64, ascending.
        known: whether that is sure; a batch sampler of the user's own may draw fewer.

    Raises:
        ValueError: the sampler does not tell.
    """
    everything = torch.arange(len(loader.dataset))  # type: ignore[arg-type]
    if given is not None:
        found: Tensor | None = torch.as_tensor(given).long()
    elif loader.batch_sampler is None:
        found = _drawn_by(loader.sampler, everything, level, batches=False)
    else:
        found = _drawn_by(loader.batch_sampler, everything, level, batches=True)
    members = everything if found is None else found.unique()
    if not members.numel() or members[0] < 0 or members[-1] >= everything.numel():
        raise ValueError(
            f"bdp_ext.prune: the {level} sampler's indices are not within its data set of "
            f"{everything.numel()} samples; pass indices=(train_indices, valid_indices)."
        )
    return members, found is not None


def _drawn_by(sampler: Any, everything: Tensor, level: str, batches: bool) -> Tensor | None:
    """What a sampler (of `batches`) draws; None: presumably everything."""
    indices = getattr(sampler, "indices", None)
    if indices is not None and len(indices):
        return torch.as_tensor(indices).long()
    if isinstance(sampler, WeightedRandomSampler):
        return torch.as_tensor(sampler.weights).nonzero().squeeze(1)
    if isinstance(sampler, DistributedSampler):
        return everything
    for name in ("batch_sampler", "sampler"):
        if getattr(sampler, name, None) is not None:
            inner = getattr(sampler, name)
            return _drawn_by(inner, everything, level, batches=name == "batch_sampler")
    source = getattr(sampler, "data_source", None)
    if source is not None and hasattr(source, "__len__"):
        return torch.arange(len(source))
    if batches:
        return None
    length = _length(sampler)  # of a sampler of one's own: how many a pass has, not which
    if length is not None and length < everything.numel():
        raise ValueError(
            f"bdp_ext.prune: the {level} sampler {type(sampler).__name__} draws {length} of "
            f"{everything.numel()} samples and does not say which; give it an attribute `indices` "
            "or pass indices=(train_indices, valid_indices)."
        )
    return everything


def _length(sampler: Any) -> int | None:
    try:
        return len(sampler)
    except (TypeError, NotImplementedError):
        return None


def _transformed(dataset: Any, labels: Tensor) -> Tensor | None:
    """Labels as the data set yields them: torchvision's `target_transform` applied."""
    transform = getattr(dataset, "target_transform", None)
    if transform is None:
        return labels
    known = {label: transform(label) for label in set(labels.tolist())}
    return as_labels([known[label] for label in labels.tolist()], len(labels))
