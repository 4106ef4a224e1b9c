"""Retrainings, each done once."""

from functools import cache
from pathlib import Path

import pytest
from jobs import Silent

from bdp_ext.retrain.run import retrain

from .common import CONFIGS


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a retraining, each done once."""

    @cache
    def folder_of(name: str) -> Path:
        out = tmp_path_factory.mktemp("trained")
        retrain(CONFIGS[name], out, resume=False, observer=Silent())
        return out

    return folder_of
