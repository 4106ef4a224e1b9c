"""Small retrainings of every space."""

from bdp_ext.data import load
from bdp_ext.retrain.config import RetrainConfig
from bdp_ext.retrain.loop import Retrain
from bdp_ext.spaces.published import PUBLISHED

DARTS_V2 = str(PUBLISHED["DARTS_V2"])
CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|none~2|"
LAYERS = "k3e3|skip+k5e6|k3e3+k7e3|skip+k3e6|k3e3+k5e3|k7e6+k3e3"
SMALL = {"data": "digits", "epochs": 2, "channels": 4, "batch_size": 32, "limit_train": 200}
CONFIGS = {
    "darts": RetrainConfig.of(
        space="darts", genotype=DARTS_V2, cells=3, auxiliary=0.0, drop_path=0.5, **SMALL
    ),
    "nas-bench-201": RetrainConfig.of(space="nas-bench-201", genotype=CELL, cells=1, **SMALL),
    "mobilenet": RetrainConfig.of(
        space="mobilenet", genotype=LAYERS, cells=2, drop_path=0.5, **SMALL | {"channels": 16}
    ),
    # Everything that only the ImageNet protocols ask for, at once.
    "imagenet's": RetrainConfig.of(
        **{**SMALL, "epochs": 3},
        space="darts",
        genotype=DARTS_V2,
        cells=3,
        auxiliary=0.0,
        optimizer="rmsprop",
        lr_schedule="step",
        warmup=1,
        decay_all=False,
        label_smoothing=0.1,
        dropout=0.3,
        ema=0.9,
        evaluate_every=2,
    ),
}


def make(config: RetrainConfig) -> Retrain:
    train = load(config.data, limit=config.limit_train, seed=config.seed)
    return Retrain(config, train, load(config.data, split="test"))
