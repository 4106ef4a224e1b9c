"""The dominant Hessian eigenvalue against the full Hessian."""

import jobs
import pytest
import torch
from torch.nn import Parameter
from torch.nn.functional import cross_entropy

from bdp_ext.data import load
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.hessian import dominant_eigenvalue
from bdp_ext.search.loop import Search
from bdp_ext.spaces import SPACES


@pytest.mark.parametrize("diagonal", [[3.0, -7.0, 1.0, 0.5], [-1.0, -2.0, -3.0, -0.1]])
def test_largest_not_the_largest_in_size(diagonal):
    parameter = Parameter(torch.randn(4, dtype=torch.float64))
    scale = torch.tensor(diagonal, dtype=torch.float64) / 2
    found = dominant_eigenvalue(lambda: (scale * parameter**2).sum(), [parameter])
    assert found == pytest.approx(max(diagonal), rel=1e-9)


@pytest.mark.parametrize("space", ["nas-bench-201"])
def test_equals_the_full_hessians(space):
    torch.manual_seed(0)
    supernet = SPACES[space].supernet(channels=2, cells=3, classes=3).double()
    images, target = torch.randn(6, 3, 8, 8).double(), torch.randint(3, (6,))
    alphas = supernet.alphas()

    def loss():
        return cross_entropy(supernet(images), target)

    gradients = torch.autograd.grad(loss(), alphas, create_graph=True)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    rows = []
    for entry in flat:
        row = torch.autograd.grad(entry, alphas, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in row]))
    expected = torch.linalg.eigvalsh(torch.stack(rows)).max().item()
    assert dominant_eigenvalue(loss, alphas) == pytest.approx(expected, rel=1e-6)


def test_search_records_it_every_n_epochs_and_goes_on_as_without():
    def finish(**options):
        config = SearchConfig(epochs=4, interval=2, channels=2, cells=1, **options)
        return jobs.finish(Search(config, load("digits", limit=60)))

    search, without = finish(eigenvalue_every=2), finish()
    assert [("eigenvalue" in record) for record in search.history] == [False, True, False, True]
    assert search.alpha == without.alpha
