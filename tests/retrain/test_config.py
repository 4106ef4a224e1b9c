"""The settings of a retraining: protocols and learning rates."""

import pytest

from bdp_ext.retrain.config import RetrainConfig, usual_protocol

from .common import CELL, DARTS_V2, LAYERS


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"epochs": 4}, [1, 0.5 + 0.5**1.5, 0.5, 0.5 - 0.5**1.5]),
        ({"epochs": 4, "lr_schedule": "linear"}, [1, 0.75, 0.5, 0.25]),
        ({"epochs": 10, "lr_schedule": "linear", "warmup": 5}, [0.2, 0.4, 0.6, 0.8, 1, 0.5]),
        ({"lr_schedule": "step", "lr_decay": 0.5, "lr_decay_epochs": 2}, [1, 1, 0.5, 0.5, 0.25]),
    ],
)
def test_learning_rates(settings, rates):
    config = RetrainConfig(space="darts", genotype=DARTS_V2, lr=1.0, **settings)
    assert [config.learning_rate(epoch) for epoch in range(len(rates))] == pytest.approx(rates)


def test_protocols_are_the_papers():
    def of(space, genotype, protocol, *names):
        config = RetrainConfig.of(space=space, genotype=genotype, protocol=protocol)
        return [getattr(config, name) for name in names]

    common = ("epochs", "channels", "cells", "batch_size", "lr", "weight_decay", "label_smoothing")
    assert of("darts", DARTS_V2, "cifar", *common) == [600, 36, 20, 96, 0.025, 3e-4, 0]
    assert of("darts", DARTS_V2, "imagenet", *common) == [250, 48, 14, 1024, 0.5, 3e-5, 0.1]
    assert of("nas-bench-201", CELL, "cifar", *common) == [200, 16, 5, 256, 0.1, 5e-4, 0]
    extras = ("cutout", "auxiliary", "drop_path", "clip", "nesterov")
    assert of("darts", DARTS_V2, "cifar", *extras) == [0.5, 0.4, 0.2, 5, False]
    assert of("darts", DARTS_V2, "imagenet", *extras) == [0, 0.4, 0, 5, False]
    assert of("nas-bench-201", CELL, "cifar", *extras) == [0, 0, 0, 0, True]
    extras = ("optimizer", "lr_decay", "lr_decay_epochs", "warmup", "dropout", "ema", "decay_all")
    assert of("mobilenet", LAYERS, "imagenet", *common) == [500, 32, 4, 1024, 0.064, 1e-4, 0.1]
    assert of("mobilenet", LAYERS, "imagenet", *extras) == [
        *("rmsprop", 0.963, 3, 5, 0.2),
        *(0.9998, False),
    ]
    assert usual_protocol("darts", 127) == usual_protocol("nas-bench-201", 224) == "cifar"
    assert usual_protocol("darts", 128) == "imagenet"
