"""Accelerate: the loaders that `Accelerator.prepare` returns wrap the user's; prune inside them.

from bdp_ext.integrations.accelerate import prune
model, optimizer, train, valid = accelerator.prepare(model, optimizer, train, valid)
train, valid = prune(train, valid, criterion, epochs=50)
"""

from typing import Any

from torch import nn

from bdp_ext.dropin import prune as prune_loaders

try:
    from accelerate.data_loader import DataLoaderShard  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(
        "bdp_ext.integrations.accelerate needs Accelerate; pip install 'bdp_ext[accelerate]'."
    ) from error


def prune(
    train_queue: Any, valid_queue: Any = None, loss: nn.Module | None = None, **options: Any
) -> Any:
    """`bdp_ext.prune` for loaders that `Accelerator.prepare` has returned.

    Every process prunes the same samples, and gets as many batches.

    Args:
        train_queue, valid_queue: prepared, without `dispatch_batches`.
        loss: and `options`: see `bdp_ext.prune`.

    Returns:
        The prepared loaders themselves, now of live samples, with `pruner` and `unpruned`.

    Raises:
        TypeError: a loader that was not prepared, or that dispatches batches from one process.
    """
    queues = [queue for queue in (train_queue, valid_queue) if queue is not None]
    for queue in queues:
        if type(queue) is not DataLoaderShard:
            raise TypeError(
                "bdp_ext.integrations.accelerate.prune: loaders must come from "
                "Accelerator.prepare, with dispatch_batches=False in its DataLoaderConfiguration, "
                f"got {type(queue).__name__}; use bdp_ext.prune for plain loaders."
            )
    inside = [queue.base_dataloader for queue in queues] + [None]
    pruned = prune_loaders(inside[0], inside[1], loss, **options)
    for queue, loader in zip(queues, pruned if len(queues) > 1 else [pruned], strict=True):
        queue.base_dataloader = loader
    return queues[0] if len(queues) == 1 else tuple(queues)
