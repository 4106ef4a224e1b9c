"""Networks of found cells: their sizes are the published ones."""

import csv
import gzip
import random
import re

import pytest
import torch

from bdp_ext.spaces import SPACES
from bdp_ext.spaces.cost import multiply_adds, parameters
from bdp_ext.spaces.darts_network import DartsNetwork, drop_path
from bdp_ext.spaces.nas_bench_201 import NasBench201Supernet, NasBench201SupernetCell
from bdp_ext.spaces.nas_bench_201_cell import CANDIDATES, parse_cell
from bdp_ext.spaces.nas_bench_201_network import NasBench201Network
from bdp_ext.spaces.published import PUBLISHED

CELL = "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|skip_connect~2|"

DARTS = SPACES["darts"]
DARTS_V2 = PUBLISHED["DARTS_V2"]


# Millions, as the papers print them: PC-DARTS (arXiv 1907.05737), Tables 1 and 2; P-DARTS (arXiv
# 1904.12760), Tables 1 and 2.
@pytest.mark.parametrize(
    ("name", "cifar", "imagenet"),
    [
        ("DARTS_V2", 3.3, 4.7),
        ("PDARTS", 3.4, 4.9),
        ("PC_DARTS_cifar", 3.6, 5.3),
        ("PC_DARTS_image", None, 5.3),
    ],
)
def test_published_genotypes_have_the_published_sizes(name, cifar, imagenet):
    def size(auxiliary, **settings):
        with torch.device("meta"):
            network = DARTS.network(str(PUBLISHED[name]), auxiliary=auxiliary, **settings)
        return round(parameters(network) / 1e6, 1)

    small = {"channels": 36, "cells": 20, "classes": 10, "imagenet": False}
    large = {"channels": 48, "cells": 14, "classes": 1000, "imagenet": True}
    assert size(True, **small) == size(False, **small)
    assert cifar in (None, size(False, **small))
    assert size(True, **large) == imagenet


@pytest.mark.parametrize(
    ("space", "architecture", "sentence"),
    [
        ("darts", "Genotype(normal=[('sep_conv_7x7', 0), ('none', 1)], reduce=[])", "sep_conv_7x7"),
        ("darts", "Genotype(normal=[('none', 0), ('none', 2)], reduce=[])", "source from 0 to 1"),
        ("darts", "Genotype(normal=[('none', 0)], reduce=[])", "two inputs for each node"),
        ("darts", "Genotype(normal=[], reduce=[])", "two inputs for each node"),
        ("darts", "Genotype(normal=[('none', 0), ('none', 1)], reduce=[])", "normal_concat"),
        ("darts", "|none~0|", "is no genotype"),
        ("nas-bench-201", "Genotype(normal=[])", "is no NAS-Bench-201 cell"),
    ],
)
def test_space_says_what_is_wrong_with_an_architecture(space, architecture, sentence):
    settings = {"channels": 4, "cells": 3, "classes": 10, "imagenet": False, "auxiliary": False}
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SPACES[space].network(architecture, **settings)
    with pytest.raises(ValueError, match=re.escape(sentence)):
        SPACES[space].graph(architecture)


def test_graphs_of_cells():
    cell = SPACES["nas-bench-201"].graph(CELL)["cell"]
    assert cell[:3] == [
        ("0", "1", "nor_conv_3x3"),
        ("0", "2", "skip_connect"),
        ("1", "2", "nor_conv_1x1"),
    ]
    graph = DARTS.graph(str(DARTS_V2))
    assert list(graph) == ["normal", "reduce"]
    assert graph["normal"][7] == ("0", "3", "dil_conv_3x3")
    assert graph["normal"][8:] == [(str(node), "c_{k}", "") for node in range(4)]


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
        if isinstance(block, NasBench201SupernetCell):
            parts = [edge.operations[k] for edge, k in zip(block.edges, chosen, strict=True)]
        for part in parts:
            yield from (weight for weight in part.parameters() if weight.dim() == 4)


def test_auxiliary_head_answers_while_training_only():
    network = DartsNetwork(DARTS_V2, channels=4, cells=6, classes=7, auxiliary=True)
    images = torch.randn(2, 3, 32, 32)
    logits, auxiliary = network(images)
    assert logits.shape == auxiliary.shape == (2, 7)
    assert network.eval()(images).shape == (2, 7)
    logits, auxiliary = network.train()(torch.randn(2, 3, 48, 48))
    assert logits.shape == auxiliary.shape == (2, 7)
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
    assert not torch.equal(network(images), network(images))
