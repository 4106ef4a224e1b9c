"""Networks of found cells: their sizes are the published ones."""

import csv
import gzip
import random

import pytest
import torch

from bdp_ext.cost import multiply_adds, parameters
from bdp_ext.spaces.darts_network import DartsNetwork, drop_path
from bdp_ext.spaces.genotype import Genotype
from bdp_ext.spaces.nas_bench_201 import CANDIDATES, Cell, NasBench201Supernet, parse_cell
from bdp_ext.spaces.nas_bench_201_network import NasBench201Network

SEP3, SEP5, DIL3, SKIP, MAX, AVERAGE = (
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "skip_connect",
    "max_pool_3x3",
    "avg_pool_3x3",
)
DARTS_V2 = Genotype(
    normal=[
        *[(SEP3, 0), (SEP3, 1)],
        *[(SEP3, 0), (SEP3, 1)],
        *[(SEP3, 1), (SKIP, 0)],
        *[(SKIP, 0), (DIL3, 2)],
    ],
    reduce=[
        *[(MAX, 0), (MAX, 1)],
        *[(SKIP, 2), (MAX, 1)],
        *[(MAX, 0), (SKIP, 2)],
        *[(SKIP, 2), (MAX, 1)],
    ],
)
PC_DARTS = Genotype(
    normal=[
        *[(SEP3, 1), (SKIP, 0)],
        *[(SEP3, 0), (DIL3, 1)],
        *[(SEP5, 0), (SEP3, 1)],
        *[(AVERAGE, 0), (DIL3, 1)],
    ],
    reduce=[
        *[(SEP5, 1), (MAX, 0)],
        *[(SEP5, 1), (SEP5, 2)],
        *[(SEP3, 0), (SEP3, 3)],
        *[(SEP3, 1), (SEP3, 2)],
    ],
)


@pytest.mark.parametrize(
    ("genotype", "cifar", "imagenet"), [(DARTS_V2, 3.3, 4.7), (PC_DARTS, 3.6, 5.3)]
)
def test_published_genotypes_have_the_published_sizes(genotype, cifar, imagenet):
    network = DartsNetwork(genotype, auxiliary=True)
    assert round(parameters(network) / 1e6, 1) == cifar
    assert parameters(network) == parameters(DartsNetwork(genotype))
    network = DartsNetwork(genotype, channels=48, cells=14, classes=1000, imagenet=True)
    assert round(parameters(network) / 1e6, 1) == imagenet


def test_nas_bench_201_cells_cost_what_the_table_says(data_folder):
    with gzip.open(data_folder / "nb201.csv.gz", "rt") as file:
        rows = random.Random(0).sample(list(csv.DictReader(file)), 200)
    for row in rows:
        with torch.device("meta"):
            network = NasBench201Network(parse_cell(row["arch_str"]))
        assert parameters(network) == round(float(row["params"]) * 1e6)
        assert multiply_adds(network, 32) == round(float(row["flops"]) * 1e6)


def test_one_hot_supernet_is_the_found_network():
    """With all the weight on one candidate an edge, and the same numbers, they compute the same."""
    torch.manual_seed(0)
    operations = [
        *["nor_conv_3x3", "skip_connect", "avg_pool_3x3"],
        *["nor_conv_1x1", "nor_conv_3x3", "skip_connect"],
    ]
    supernet = NasBench201Supernet(4, 1, 5).double()
    network = NasBench201Network(operations, 4, 1, 5).double()
    chosen = [list(CANDIDATES).index(name) for name in operations]
    with torch.no_grad():
        supernet.alpha.fill_(-1e9)
        supernet.alpha[range(6), chosen] = 0
        convolutions = [weight for weight in network.parameters() if weight.dim() == 4]
        for weight, shared in zip(convolutions, _convolutions(supernet, chosen), strict=True):
            weight.copy_(shared)
        network.classifier.load_state_dict(supernet.classifier.state_dict())
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(images), supernet(images), rtol=1e-9, atol=1e-9)


def _convolutions(supernet, chosen):
    """The supernet's convolutions that are in the found network, in its order."""
    yield supernet.stem[0].weight
    for block in supernet.stages:
        parts = [block]
        if isinstance(block, Cell):
            parts = [edge.operations[k] for edge, k in zip(block.edges, chosen, strict=True)]
        for part in parts:
            yield from (weight for weight in part.parameters() if weight.dim() == 4)


def test_auxiliary_head_answers_while_training_only():
    network = DartsNetwork(DARTS_V2, channels=4, cells=6, classes=7, auxiliary=True)
    images = torch.randn(2, 3, 32, 32)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (2, 7)
    assert network.eval()(images)[1] is None
    imagenet = DartsNetwork(DARTS_V2, channels=4, cells=6, classes=7, imagenet=True, auxiliary=True)
    logits, auxiliary = imagenet(torch.randn(2, 3, 224, 224))
    assert logits.shape == auxiliary.shape == (2, 7)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    x = torch.ones(20_000, 2, 1, 1)
    y = drop_path(x, 0.3)
    assert y.unique().tolist() == [0, pytest.approx(1 / 0.7)]
    assert torch.equal(y[:, 0], y[:, 1])
    assert y.mean().item() == pytest.approx(1, abs=0.02)
    network = DartsNetwork(DARTS_V2, channels=4, cells=3)
    images = torch.randn(2, 3, 32, 32)
    network.drop_path = 0.5
    assert not torch.equal(network(images)[0], network(images)[0])
