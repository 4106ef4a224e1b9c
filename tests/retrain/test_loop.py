"""The loop: a step is the protocol's, and what depends on the epoch follows it."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from jobs import finish

from bdp_ext.data import cutout, load
from bdp_ext.errors import UserError
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.loop import Retrain, read_batch
from bdp_ext.retrain.run import folder

from .common import CONFIGS, DARTS_V2, SMALL, make

ALL_NONE = "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|"


def test_training_lowers_the_loss():
    config = replace(CONFIGS["nas-bench-201"], epochs=8, channels=8, limit_train=600)
    job = finish(make(config))
    first, last = job.history[0], job.history[-1]
    assert last["train_loss"] < 0.5 * first["train_loss"]
    assert last["top1"] > 0.6


def test_cell_without_a_way_to_the_output_trains():
    """Its convolutions have no gradient; the classifier's bias still learns."""
    config = RetrainConfig.of(space="nas-bench-201", genotype=ALL_NONE, cells=1, **SMALL)
    job = make(config)
    before = job.network.classifier.bias.clone()
    job.step()
    assert not torch.equal(job.network.classifier.bias, before)


def test_step_is_the_protocols():
    """One step by hand: crop, cutout, both losses, clipping, weight decay, SGD with momentum."""
    torch.manual_seed(0)
    data = load("digits", image_size=32, limit=20)
    config = RetrainConfig.of(
        space="darts",
        genotype=DARTS_V2,
        data="digits",
        channels=4,
        cells=3,
        batch_size=20,
        label_smoothing=0.1,
        clip=0.01,
    )
    job, twin = Retrain(config, data, data), Retrain(config, data, data)
    crops, squares = (torch.Generator().manual_seed(config.seed) for _ in range(2))
    images, target = read_batch(twin.train, twin.sampler.next_batch(), crops)
    logits, auxiliary = twin.network(cutout(images, 16, squares))
    losses = [F.cross_entropy(x, target, label_smoothing=0.1) for x in (logits, auxiliary)]
    (losses[0] + 0.4 * losses[1]).backward()
    torch.nn.utils.clip_grad_norm_(twin.parameters, 0.01)
    torch.optim.SGD(twin.parameters, 0.025, 0.9, weight_decay=3e-4).step()
    job.step()
    for mine, theirs in zip(job.parameters, twin.parameters, strict=True):
        assert torch.equal(mine, theirs)


def test_drop_path_and_learning_rate_follow_the_epoch():
    job = make(CONFIGS["darts"])
    assert job.network.drop_path == 0
    while not job.epoch_done:
        job.step()
    record = job.end_epoch()
    assert job.network.drop_path == 0.25
    assert record["lr"] == 0.025
    assert job.optimizer.param_groups[0]["lr"] == pytest.approx(0.0125)


def test_dropout_drops_the_classifiers_features_in_training_only():
    job = make(CONFIGS["imagenet's"])
    images, _ = read_batch(job.test, torch.arange(8))
    job.network.train()
    norms = [module for module in job.network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.eval()
    assert not torch.equal(job.network(images), job.network(images))
    job.network.eval()
    assert torch.equal(job.network(images), job.network(images))


def test_images_of_another_set_are_refused(trained):
    config = CONFIGS["nas-bench-201"]
    state = folder(trained("nas-bench-201")).saved_state(resume=True)["retraining"]
    job = Retrain(config, load("digits", limit=199), load("digits", split="test"))
    with pytest.raises(UserError, match="are not those that this retraining began with"):
        job.load_state_dict(state)
    with pytest.raises(UserError, match="not 8x8 and 16x16; give --image-size"):
        Retrain(config, load("digits"), load("digits", split="test", image_size=16))
