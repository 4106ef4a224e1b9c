"""Lightning's trainer with a bi-level module (manual optimisation) and a combined loader."""

import tempfile
import warnings

import torch
from common import Network, Oracle, queues

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.utilities import CombinedLoader

import bdp_ext
from bdp_ext.integrations.lightning import PruneCallback

EPOCHS = 6
warnings.filterwarnings("ignore", module="lightning")


class Search(LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.criterion = torch.nn.CrossEntropyLoss()
        self.network = Network(self.criterion)
        self.oracle = None

    def configure_optimizers(self):
        return (
            torch.optim.SGD(self.network.weights(), 0.1, momentum=0.9),
            torch.optim.Adam([self.network.alphas], 0.01),
        )

    def training_step(self, batch, _):
        for level, optimizer in zip(("valid", "train"), reversed(self.optimizers()), strict=True):
            images, target = batch[level]
            logits = self.network(images)
            optimizer.zero_grad()
            self.manual_backward(self.criterion(logits, target))
            optimizer.step()
            if self.oracle:
                self.oracle.forward(level, images, logits, target)


class Ended(PruneCallback):
    def on_train_epoch_end(self, trainer, pl_module):
        super().on_train_epoch_end(trainer, pl_module)
        steps.append(trainer.global_step // 2)
        if pl_module.oracle:
            pl_module.oracle.end_epoch()


def fit(epochs, module, checkpoint=None):
    torch.manual_seed(0)
    train, valid = queues()
    train, valid = bdp_ext.prune(
        train, valid, module.criterion, epochs=EPOCHS, interval=2, balance="none", unit="manual"
    )
    callback = Ended(train.pruner)
    if checkpoint is None:
        module.oracle = Oracle(train.pruner)
    trainer = Trainer(
        max_epochs=epochs, callbacks=[callback], accelerator="cpu", devices=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loaders = CombinedLoader({"train": train, "valid": valid}, "max_size_cycle")
    trainer.fit(module, loaders, ckpt_path=checkpoint)
    return trainer, train.pruner


steps = []
module = Search()
trainer, pruner = fit(5, module)
module.oracle.finish()
assert [b - a for a, b in zip([0, *steps], steps, strict=False)] == [5, 5, 4, 4, 3], steps
assert trainer.callback_metrics["bdp/train"] == 40

with tempfile.TemporaryDirectory() as folder:
    trainer.save_checkpoint(f"{folder}/search.ckpt")
    _, resumed = fit(6, Search(), f"{folder}/search.ckpt")
assert resumed.epoch == 6
assert resumed.report() == pruner.report()
for level, live in pruner.live_indices.items():
    assert torch.equal(live, resumed.live_indices[level])
print("scored")
