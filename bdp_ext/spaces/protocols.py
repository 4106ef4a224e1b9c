"""How found networks are trained from scratch: settings of `RetrainConfig`, by space and protocol.

A space's `retraining` is one of these; what a mapping leaves out is the default of `RetrainConfig`,
which is DARTS on CIFAR.
"""

from collections.abc import Mapping
from typing import Any

Protocols = Mapping[str, Mapping[str, Any]]
"""Name of a protocol ("cifar", "imagenet") -> settings."""

IMAGENET_SIZE = 224

DARTS: Protocols = {
    # DARTS (arXiv 1806.09055), Sec. 3.2.
    "cifar": {},
    # PC-DARTS (arXiv 1907.05737), Sec. 4.3, which the BDP paper follows on ImageNet. The batch is
    # that of eight GPUs: scale --lr with --batch-size.
    "imagenet": {
        "image_size": IMAGENET_SIZE,
        "epochs": 250,
        "channels": 48,
        "cells": 14,
        "batch_size": 1024,
        "lr": 0.5,
        "lr_schedule": "linear",
        "warmup": 5,
        "weight_decay": 3e-5,
        "label_smoothing": 0.1,
        "drop_path": 0.0,
        "cutout": 0.0,
    },
}

NAS_BENCH_201: Protocols = {
    # NAS-Bench-201 (arXiv 2001.00326), Table 1, H: what its accuracies after 200 epochs come from.
    "cifar": {
        "epochs": 200,
        "channels": 16,
        "cells": 5,
        "batch_size": 256,
        "lr": 0.1,
        "nesterov": True,
        "weight_decay": 5e-4,
        "clip": 0.0,
        "auxiliary": 0.0,
        "drop_path": 0.0,
        "cutout": 0.0,
    },
}

MOBILENET: Protocols = {
    # DARTS's CIFAR protocol without the head that a chain does not have: neither DNA nor
    # beta-DARTS++ trains on CIFAR from scratch.
    "cifar": {"channels": 32, "cells": 4, "auxiliary": 0.0},
    # DNA (arXiv 1911.13053), the retraining command of its public code, which the BDP paper
    # follows: eight GPUs of 128 images each. The code's colour jitter of .06 is the data's matter.
    "imagenet": {
        "image_size": IMAGENET_SIZE,
        "epochs": 500,
        "channels": 32,
        "cells": 4,
        "batch_size": 1024,
        "optimizer": "rmsprop",
        "lr": 0.064,
        "lr_schedule": "step",
        "lr_decay": 0.963,
        "lr_decay_epochs": 3,
        "warmup": 5,
        "weight_decay": 1e-4,
        "decay_all": False,
        "clip": 0.0,
        "label_smoothing": 0.1,
        "auxiliary": 0.0,
        "drop_path": 0.0,
        "dropout": 0.2,
        "cutout": 0.0,
        "ema": 0.9998,
    },
}
