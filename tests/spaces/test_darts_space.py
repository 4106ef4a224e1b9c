"""The DARTS space: its supernet, its derivation and the genotypes that public code writes."""

import pytest
import torch

from bdp_ext.spaces import CandidateWeights
from bdp_ext.spaces.darts import (
    CANDIDATES,
    EDGES,
    DartsSpace,
    DartsSupernet,
    DartsSupernetCell,
    strongest_inputs,
)
from bdp_ext.spaces.genotype import parse

DARTS_V2 = """DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1),
  ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0),
  ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5],
  reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),
  ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)],
  reduce_concat=[2, 3, 4, 5])"""


def test_parameters_are_those_of_the_public_code():
    supernet = DartsSupernet(channels=16, cells=8, classes=10)
    assert sum(weight.numel() for weight in supernet.weights()) == 1_930_618
    assert [tuple(alpha.shape) for alpha in supernet.alphas()] == [(14, 8), (14, 8)]


@pytest.mark.parametrize("reduction", [False, True])
def test_cell_is_the_weighted_sum_of_its_operations(reduction):
    torch.manual_seed(0)
    cell = DartsSupernetCell(12, 8, 4, reduction, after_reduction=False).double()
    inputs = (torch.randn(2, c, 8, 8, dtype=torch.float64) for c in (12, 8))
    before_last, last = inputs
    weights = torch.randn(14, 8, dtype=torch.float64).softmax(1)
    states = [cell.first(before_last), cell.second(last)]
    for node in range(4):
        rows = [row for row, (reader, _) in enumerate(EDGES) if reader == node]
        states.append(
            sum(
                weights[row, k] * operation(states[EDGES[row][1]])
                for row in rows
                for k, operation in enumerate(cell.edges[row].operations)
            )
        )
    expected = torch.cat(states[2:], 1)
    assert expected.shape == (2, 16, 4, 4) if reduction else (2, 16, 8, 8)
    torch.testing.assert_close(
        cell(before_last, last, CandidateWeights(weights)), expected, rtol=1e-12, atol=1e-12
    )


def test_every_parameter_gets_a_gradient():
    torch.manual_seed(0)
    supernet = DartsSupernet(channels=2, cells=3, classes=5)
    logits = supernet(torch.randn(4, 3, 16, 16))
    assert logits.shape == (4, 5)
    gradients = torch.autograd.grad(logits.square().sum(), supernet.parameters())
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(bool(gradient.abs().sum() > 0) for gradient in gradients) == len(gradients)


def test_supernet_for_imagenet_has_the_networks_stem():
    torch.manual_seed(0)
    assert not DartsSpace().for_images(32).imagenet
    space = DartsSpace().for_images(224)
    supernet = space.supernet(channels=4, cells=3, classes=5)
    network = space.network(
        DARTS_V2, channels=4, cells=3, classes=5, imagenet=True, auxiliary=False
    )
    for own, other in ((supernet.stem, network.stem), (supernet.second_stem, network.second_stem)):
        shapes = [tuple(weight.shape) for weight in own.parameters()]
        assert shapes == [tuple(weight.shape) for weight in other.parameters()]
    sizes = []
    supernet.cells[0].register_forward_hook(lambda cell, inputs, y: sizes.append(y.shape))
    logits = supernet(torch.randn(4, 3, 128, 128))
    assert (logits.shape, sizes) == ((4, 5), [(4, 16, 16, 16)])
    gradients = torch.autograd.grad(logits.square().sum(), supernet.parameters())
    assert all(bool(gradient.abs().sum() > 0) for gradient in gradients)


def test_two_strongest_inputs_of_each_node_without_none():
    names = list(CANDIDATES)
    weights = torch.full((14, 8), 0.1)
    weights[:, 0] = 0.9  # `none` is the strongest everywhere and counts nowhere
    chosen = {
        0: (1, 4),
        1: (0, 3),
        4: (2, 5),
        3: (0, 6),
        6: (1, 7),
        5: (0, 1),
        12: (3, 2),
        9: (0, 4),
    }
    for strength, (row, (_, k)) in enumerate(chosen.items()):
        weights[row, k] = 0.5 - strength / 100
    found = strongest_inputs(weights)
    assert found == [
        (names[4], 0),
        (names[3], 1),
        (names[5], 2),
        (names[6], 1),
        (names[7], 1),
        (names[1], 0),
        (names[2], 3),
        (names[4], 0),
    ]


def test_genotype_round_trip_and_published_form():
    found = DartsSpace().derive([torch.randn(14, 8), torch.randn(14, 8)])["architecture"]
    assert str(parse(found)) == found
    assert found.startswith("Genotype(normal=[('")
    assert "normal_concat=range(2, 6)" in found
    published = parse(DARTS_V2)
    assert published.normal[7] == ("dil_conv_3x3", 2)
    assert published.reduce_concat == (2, 3, 4, 5)
    assert parse(str(published)) == published


@pytest.mark.parametrize(
    "text",
    [
        *("", "Genotype(", "Genotype(cells=3)", "Genotype(normal=[1], reduce=open('x'))", "[1, 2]"),
        "Genotype(normal=__import__('os').getcwd(), reduce=[])",
    ],
)
def test_refuses_what_is_no_genotype(text):
    with pytest.raises(ValueError, match="is no genotype"):
        parse(text)
