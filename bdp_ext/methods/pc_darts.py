"""PC-DARTS (arXiv 1907.05737): a quarter of the channels is searched, edges are normalised."""

from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from bdp_ext.errors import UserError
from bdp_ext.methods.method import Method, Past
from bdp_ext.spaces import Space, Supernet

CHANNEL_DIVISOR = 4
"""One part in four of the channels is searched."""


class PcDarts(Method):
    """First order on a partial supernet; alpha waits until the weights have found their feet."""

    name = "pc-darts"
    defaults: Mapping[str, Any] = {
        "batch_size": 256,
        "lr": 0.1,
        "lr_min": 0.0,
        "alpha_lr": 6e-4,
    }
    alpha_start = Fraction(15, 50)

    def supernet(
        self, space: Space, *, channels: int, cells: int, classes: int, past: Past = ()
    ) -> Supernet:
        if channels % CHANNEL_DIVISOR:
            raise UserError(
                f"--channels {channels} cannot be divided into {CHANNEL_DIVISOR} parts, of which "
                f"PC-DARTS searches one; give a multiple of {CHANNEL_DIVISOR}."
            )
        return space.supernet(
            channels=channels, cells=cells, classes=classes, channel_divisor=CHANNEL_DIVISOR
        )
