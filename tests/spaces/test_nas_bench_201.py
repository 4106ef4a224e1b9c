"""The NAS-Bench-201 space: its supernet, its cells and their string form."""

import csv
import gzip

import pytest
import torch

from bdp_ext.errors import UserError
from bdp_ext.spaces import CandidateWeights
from bdp_ext.spaces.nas_bench_201 import (
    CANDIDATES,
    EDGES,
    NasBench201Space,
    NasBench201Supernet,
    NasBench201SupernetCell,
    format_cell,
    parse_cell,
)

ALL_SKIP = (
    "|skip_connect~0|+|skip_connect~0|skip_connect~1|"
    "+|skip_connect~0|skip_connect~1|skip_connect~2|"
)


def test_parameters_are_those_of_the_authors_code():
    supernet = NasBench201Supernet(channels=16, cells=5, classes=10)
    assert sum(weight.numel() for weight in supernet.weights()) == 1_686_106
    assert [tuple(alpha.shape) for alpha in supernet.alphas()] == [(6, 5)]


def test_cell_is_the_weighted_sum_of_its_operations():
    torch.manual_seed(0)
    cell = NasBench201SupernetCell(4).double()
    x = torch.randn(3, 4, 6, 6, dtype=torch.float64)
    weights = torch.randn(6, 5, dtype=torch.float64).softmax(1)
    nodes = [x]
    for node in (1, 2, 3):
        total = torch.zeros_like(x)
        for row, (reader, source) in enumerate(EDGES):
            if reader == node:
                for k, operation in enumerate(cell.edges[row].operations):
                    total += weights[row, k] * operation(nodes[source])
        nodes.append(total)
    torch.testing.assert_close(cell(x, CandidateWeights(weights)), nodes[3], rtol=1e-12, atol=1e-12)


def test_every_alpha_but_none_changes_the_logits_and_all_get_gradients():
    torch.manual_seed(0)
    supernet = NasBench201Supernet(channels=4, cells=1, classes=7)
    images = torch.randn(5, 3, 8, 8)
    logits = supernet(images)
    assert logits.shape == (5, 7)
    gradients = torch.autograd.grad(logits.square().sum(), supernet.parameters())
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_strongest_candidate_of_each_edge():
    alpha = torch.zeros(6, 5)
    alpha[range(6), [0, 1, 2, 3, 4, 0]] = 1
    alpha[5, 3] = 0.5
    found = NasBench201Space().derive([alpha])
    assert found["architecture"] == (
        "|none~0|+|skip_connect~0|nor_conv_1x1~1|+|nor_conv_3x3~0|avg_pool_3x3~1|none~2|"
    )
    assert parse_cell(found["architecture_without_none"])[5] == "nor_conv_3x3"


def test_string_form_round_trip_over_the_whole_benchmark(data_folder):
    with gzip.open(data_folder / "nb201.csv.gz", "rt") as file:
        architectures = [row["arch_str"] for row in csv.DictReader(file)]
    assert len(set(architectures)) == len(CANDIDATES) ** len(EDGES)
    assert all(format_cell(parse_cell(text)) == text for text in architectures)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ALL_SKIP[:-1],
        ALL_SKIP.replace("skip_connect~2", "skip_connect~1"),
        ALL_SKIP.replace("skip_connect~0", "sep_conv_3x3~0", 1),
        ALL_SKIP + "+|none~0|",
    ],
)
def test_refuses_what_is_no_cell(text):
    with pytest.raises(ValueError, match="no NAS-Bench-201 cell"):
        parse_cell(text)


def test_has_no_network_for_imagenet():
    size = {"channels": 4, "cells": 1, "classes": 10, "auxiliary": False}
    with pytest.raises(UserError, match="no network for ImageNet"):
        NasBench201Space().network(ALL_SKIP, imagenet=True, **size)
