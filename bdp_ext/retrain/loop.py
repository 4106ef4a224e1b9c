"""A found network trained from scratch: one loop for all spaces and protocols.

config = RetrainConfig.of(space="darts", genotype=str(PUBLISHED["DARTS_V2"]), data="cifar10")
retrain = Retrain(config, load("cifar10"), load("cifar10", split="test"))
while not retrain.done:
    retrain.step()
    if retrain.epoch_done:
        record = retrain.end_epoch()
print(record["top1"])
"""

import copy
import zlib
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bdp_ext.data import ImageSet, cutout, normalize
from bdp_ext.errors import UserError
from bdp_ext.pruning import LiveSampler, batches_in_pass
from bdp_ext.retrain.config import RetrainConfig, find_trained_space
from bdp_ext.retrain.rmsprop import TensorFlowRMSprop
from bdp_ext.runs import Job


class Retrain(Job[RetrainConfig]):
    """One retraining and all of its state: a `Job`.

    Args:
        config: the settings.
        train, test: the images, of the same classes and size; the test set is normalised as the
            training set is.

    Raises:
        UserError: a setting that cannot be used with this space, these images or this machine.
    """

    kind = "retraining"

    def __init__(self, config: RetrainConfig, train: ImageSet, test: ImageSet) -> None:
        super().__init__(config, zlib.crc32(f"{train.checksum()} {test.checksum()}".encode()))
        self.classes, self.mean, self.std = train.classes, train.mean, train.std
        self.image_size = _size(train, test)
        self.network = self._network().to(self.device)
        self.network.to(memory_format=torch.channels_last)
        self.average = None
        if config.ema:
            average = get_ema_multi_avg_fn(config.ema)
            self.average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)

        self.train = train.to(self.device)
        self.test = replace(test.to(self.device), mean=train.mean, std=train.std)
        self.sampler = LiveSampler(len(train.labels), config.batch_size, config.seed)
        self._augmentation = torch.Generator().manual_seed(config.seed)
        # Cutout draws from another generator: crops that are read ahead must not depend on it.
        self._squares = torch.Generator().manual_seed(config.seed)
        self.parameters = list(self.network.parameters())
        self.optimizer = self._optimizer()
        self.samples = 0
        self._start_epoch()

    def _network(self) -> nn.Module:
        config = self.config
        network = find_trained_space(config.space).network(
            config.genotype,
            **config.size,
            classes=len(self.classes),
            auxiliary=config.auxiliary > 0,
        )
        if config.drop_path and not hasattr(network, "drop_path"):
            raise UserError(
                f"a network of the {config.space} space drops no paths; give --drop-path 0."
            )
        if config.dropout:
            classifier = network.get_submodule("classifier")
            classifier.register_forward_pre_hook(partial(_drop, config.dropout))
        _try(network, self.image_size, config)
        return network

    def _optimizer(self) -> torch.optim.Optimizer:
        config = self.config
        decayed = [p for p in self.parameters if config.decay_all or p.dim() > 1]
        others = [p for p in self.parameters if not (config.decay_all or p.dim() > 1)]
        groups = [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if config.optimizer == "rmsprop":
            return TensorFlowRMSprop(groups, config.lr, config.momentum)
        return torch.optim.SGD(groups, config.lr, config.momentum, nesterov=config.nesterov)

    def _start_epoch(self) -> None:
        """Forget what was counted in the last epoch, and set what depends on the epoch."""
        self.seen = 0
        self._sums = torch.zeros(2, dtype=torch.float64, device=self.device)  # correct, losses
        self.lr = self.config.learning_rate(self.epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr
        if self.config.drop_path:
            probability = self.config.drop_path * self.epoch / self.config.epochs
            self.network.drop_path = probability  # type: ignore[assignment]  # a plain float

    @property
    def trained(self) -> nn.Module:
        """What is tested and saved: the network, or the moving average of it."""
        return self.network if self.average is None else self.average.module

    @property
    def epoch_steps(self) -> int:
        """Steps of the epoch under way."""
        return batches_in_pass(len(self.train.labels), self.config.batch_size)

    @property
    def epoch_done(self) -> bool:
        """Whether the epoch's pass over the training set is complete."""
        return self.steps > 0 and self.sampler.pass_done

    @property
    def accuracy(self) -> float:
        """Share of this epoch's training samples that the network got right."""
        return float(self._sums[0]) / max(1, self.seen)

    def step(self) -> None:
        """One update of the weights on a training batch."""
        config = self.config
        index = self.sampler.next_batch()
        images, target = read_batch(self.train, index, self._augmentation, self.sampler.peek)
        if config.cutout:
            images = cutout(images, round(config.cutout * self.image_size), self._squares)
        self.network.train()
        with self.precision.autocast:
            output = self.network(images)
            logits, auxiliary = output if isinstance(output, tuple) else (output, None)
            loss = F.cross_entropy(logits, target, label_smoothing=config.label_smoothing)
            total = loss
            if auxiliary is not None:
                total = loss + config.auxiliary * F.cross_entropy(
                    auxiliary, target, label_smoothing=config.label_smoothing
                )
        # `none` may leave operations without a way to the output, and so without a gradient.
        gradients = torch.autograd.grad(
            self.precision.scale(total), self.parameters, allow_unused=True
        )
        self.precision.step(gradients, self.parameters, self.optimizer, config.clip or None)
        if self.average is not None:
            self.average.update_parameters(self.network)

        correct = (logits.detach().argmax(1) == target).sum()
        self._sums += torch.stack([correct.double(), loss.detach().double() * len(target)])
        self.seen += len(target)
        self.samples += len(target)
        self.steps += 1
        if self.device.type == "cpu":  # a GPU would be waited for: there at the end of the epoch
            self.check_finite("loss", [loss.detach()])

    @torch.no_grad()
    def evaluate(self) -> dict[str, float]:
        """Mean loss and accuracy on the test set: `test_loss`, and the shares `top1` and `top5`."""
        network = self.trained.eval()
        top = min(5, len(self.classes))
        sums = torch.zeros(3, dtype=torch.float64, device=self.device)
        batches = torch.arange(len(self.test.labels)).split(self.config.batch_size)
        for index, upcoming in zip(batches, [*batches[1:], batches[0][:0]], strict=True):
            images, target = read_batch(self.test, index, upcoming=upcoming)
            with self.precision.autocast:
                logits = network(images).float()
            found = logits.topk(top).indices == target[:, None]
            loss = F.cross_entropy(logits, target, reduction="sum")
            sums += torch.stack([loss, found[:, 0].sum(), found.sum()])
        loss, first, any_of_five = (sums / len(self.test.labels)).tolist()
        return {"test_loss": loss, "top1": first, "top5": any_of_five}

    def end_epoch(self) -> dict[str, Any]:
        """Close the epoch: test the network when it is time, record it.

        Returns:
            The epoch's record: learning rate, loss and accuracy in training and, when it was
            tested, those of `evaluate`.

        Raises:
            Diverged: a loss or a weight is not finite.
        """
        self.check_finite("loss", [self._sums])
        self.check_finite("weight", self.parameters)
        record: dict[str, Any] = {
            "epoch": self.epoch + 1,
            "lr": self.lr,
            "train_loss": float(self._sums[1]) / self.seen,
            "train_accuracy": self.accuracy,
        }
        last = record["epoch"] == self.config.epochs
        if last or record["epoch"] % self.config.evaluate_every == 0:
            record |= self.evaluate()
            self.check_finite("test loss", [torch.tensor(record["test_loss"])])
        self.history.append(record)
        self._start_epoch()
        return record

    def state_dict(self) -> dict[str, Any]:
        return {
            **super().state_dict(),
            "network": self.network.state_dict(),
            "average": self.average.state_dict() if self.average is not None else None,
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "augmentation": self._augmentation.get_state(),
            "cutout": self._squares.get_state(),
            "counts": {"seen": self.seen, "samples": self.samples, "sums": self._sums.cpu()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self._augmentation.set_state(state["augmentation"])
        self._squares.set_state(state["cutout"])
        self._start_epoch()
        self.seen, self.samples = state["counts"]["seen"], state["counts"]["samples"]
        self._sums = state["counts"]["sums"].to(self.device)


def read_batch(
    data: ImageSet,
    index: Tensor,
    augmentation: torch.Generator | None = None,
    upcoming: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Images and labels, where the set gives its images.

    Args:
        index: [B] int64, CPU.
        augmentation: of random crops and flips; None: the images as they are.
        upcoming: the index of the next batch, which may be read ahead.

    Returns:
        [B, 3, H, W] float32, normalised, channels_last; [B] int64.
    """
    images = data.read(index, augmentation)
    if upcoming is not None and upcoming.numel():
        data.prefetch(upcoming, augmentation)
    return normalize(images, data.mean, data.std), data.labels[index].to(images.device)


def _size(train: ImageSet, test: ImageSet) -> int:
    first = torch.tensor([0])
    sizes = {tuple(data.read(first, None).shape[2:]) for data in (train, test)}
    height, width = next(iter(sizes))
    if len(sizes) > 1 or height != width:
        found = " and ".join(f"{w}x{h}" for h, w in sorted(sizes))
        raise UserError(
            f"a network wants square images of one size, not {found}; give --image-size."
        )
    return int(height)


def _try(network: nn.Module, size: int, config: RetrainConfig) -> None:
    """Refuse images that fail in mid-network, too small ones mostly, by a pass without numbers."""
    shapes = copy.deepcopy(network).to("meta")
    try:
        shapes(torch.empty(2, 3, size, size, device="meta"))
    except (RuntimeError, ValueError) as error:
        head = "--auxiliary 0 or " if config.auxiliary else ""
        raise UserError(
            f"images of {size}x{size} pixels do not suit this network "
            f"({str(error).splitlines()[0][:120]}); give {head}a larger --image-size."
        ) from error


def _drop(probability: float, classifier: nn.Module, features: tuple[Tensor]) -> Tensor:
    """Dropout before a classifier, as its forward pre-hook."""
    return F.dropout(features[0], probability, classifier.training)
