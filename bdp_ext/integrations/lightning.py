"""Lightning: its trainer knows when an epoch is over, and keeps the pruner's state.

train, valid = bdp_ext.prune(train, valid, module.criterion, epochs=50, unit="manual")
loaders = CombinedLoader({"train": train, "valid": valid}, "max_size_cycle")
trainer = Trainer(max_epochs=50, callbacks=[PruneCallback(train.pruner)])
trainer.fit(module, loaders)
"""

from typing import Any

from bdp_ext.dropin import DropInPruner

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ImportError as error:
    raise ImportError(
        "bdp_ext.integrations.lightning needs Lightning; pip install 'bdp_ext[lightning]'."
    ) from error


class PruneCallback(Callback):
    """Closes the pruner's epochs with the trainer's, logs the sizes of both levels as `bdp/train`
    and `bdp/valid`, and has the pruner's state in the trainer's checkpoints.

    Args:
        pruner: of loaders from `bdp_ext.prune(..., unit="manual")`.

    Raises:
        ValueError: the pruner's clock runs by itself.
    """

    def __init__(self, pruner: DropInPruner) -> None:
        if pruner.unit != "manual":
            raise ValueError(
                "PruneCallback: the trainer says when an epoch is over; pass unit='manual' to "
                "bdp_ext.prune."
            )
        self.pruner = pruner

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pruner.end_epoch()
        for level, live in self.pruner.live_indices.items():
            pl_module.log(f"bdp/{level}", float(live.numel()))

    def state_dict(self) -> dict[str, Any]:
        return self.pruner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.pruner.load_state_dict(state_dict)
