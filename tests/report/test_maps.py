"""Heat maps and histograms show what was recorded."""

import numpy as np
import pytest
import torch

from bdp_ext.pruning.history import histogram
from bdp_ext.report import maps, read_runs, style

from .conftest import RUNS, records


def test_figures_show_what_was_recorded(folders):
    for name, found in zip(RUNS, read_runs(list(folders.values())), strict=True):
        alphas = found.alphas().values()
        for epoch, record in enumerate(records(folders[name])):
            for number, values in enumerate(alphas):
                softmax = torch.tensor(record["alpha"][number]).softmax(1)
                shown = values.weights[:, :, epoch]
                assert np.nansum(shown, 0) == pytest.approx(1)
                assert np.sort(shown[~np.isnan(shown)]) == pytest.approx(
                    softmax.double().flatten().sort().values.numpy(), abs=1e-6
                )
                if name != "p-darts":
                    assert np.allclose(shown.T, softmax, atol=1e-6)
        if found.pruning_records is None:
            assert name == "whole"
            continue
        pruned = found.pruning_records["train"]
        figure = maps.voe(pruned, style.colour(0))
        stairs = [patch.get_data() for patch in figure.axes[0].patches]
        assert len(stairs) == 2 * len(pruned.epochs)
        for pruning, (live, taken) in enumerate(zip(stairs[::2], stairs[1::2], strict=True)):
            scale = 0.85 / pruned.histograms[pruning].max()
            counts = [(shape.values - shape.baseline) / scale for shape in (live, taken)]
            assert counts[0] == pytest.approx(pruned.histograms[pruning], abs=1e-6)
            assert counts[1].sum() == pytest.approx(pruned.taken[pruning])
            assert (counts[1] <= counts[0] + 1e-6).all()
            assert histogram(torch.from_numpy(pruned.voe[pruned.at(pruning)])).sum() == sum(
                counts[1]
            )
