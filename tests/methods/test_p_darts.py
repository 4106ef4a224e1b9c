"""P-DARTS: its stages, the candidates they leave, and the skip connections of its cell."""

import io
import math

import pytest
import torch
from torch import nn

from bdp_ext.data import load
from bdp_ext.errors import UserError
from bdp_ext.methods import METHODS, Epoch
from bdp_ext.methods.p_darts import remaining
from bdp_ext.search.config import SearchConfig
from bdp_ext.search.loop import Search
from bdp_ext.spaces import SPACES
from bdp_ext.spaces.darts import CANDIDATES
from bdp_ext.spaces.genotype import parse

METHOD = METHODS["p-darts"]()
NAMES = list(CANDIDATES)


def small_search() -> Search:
    config = SearchConfig.of(
        space="darts",
        method="p-darts",
        epochs=3,
        interval=2,
        channels=2,
        cells=3,
        batch_size=30,
        alpha_start=0,
        prune_train=0.2,
        prune_valid=0.2,
    )
    return Search(config, load("digits", limit=60))


def finish_epoch(search: Search) -> dict:
    while True:
        search.step()
        if search.epoch_done:
            return search.end_epoch()


def test_settings_are_the_authors():
    config = SearchConfig.of(space="darts", method="p-darts")
    assert (config.epochs, config.all_epochs, config.cells, config.batch_size) == (25, 75, 5, 96)
    assert (config.alpha_start, config.alpha_lr, config.lr_min) == (10, 6e-4, 0.0)
    # Neither level is pruned by scores of another supernet, nor the second before alpha moves.
    assert config.level_schedule("train").prunings == tuple(range(5, 75, 5))
    valid = (15, 20, 25, 40, 45, 50, 65, 70)
    assert config.level_schedule("valid").prunings == valid


def test_first_supernet_is_as_large_as_the_authors():
    supernet = METHOD.supernet(SPACES["darts"], channels=16, cells=5, classes=10)
    assert sum(weight.numel() for weight in supernet.weights()) == 1_275_834


def test_stages_grow_deeper_and_keep_the_strongest_candidates():
    first = [torch.randn(14, 8), torch.randn(14, 8)]
    second = [torch.randn(14, 5), torch.randn(14, 5)]
    for past, cells, kept in ((), 5, 8), ((first,), 11, 5), ((first, second), 17, 3):
        supernet = METHOD.supernet(SPACES["darts"], channels=2, cells=5, classes=3, past=past)
        assert len(supernet.cells) == cells
        assert [alpha.shape for alpha in supernet.alphas()] == [(14, kept), (14, kept)]
        assert supernet(torch.randn(2, 3, 8, 8)).shape == (2, 3)
    normal, _ = remaining((first,))
    dropped = first[0][3].argsort()[:3].tolist()
    assert normal[3] == [name for k, name in enumerate(NAMES) if k not in dropped]
    left, _ = remaining((first, second))
    dropped = second[0][3].argsort()[:2].tolist()
    assert left[3] == [name for k, name in enumerate(normal[3]) if k not in dropped]


def test_skip_connections_are_dropped_out_less_and_less():
    past = ([torch.zeros(14, 8).index_fill(1, torch.arange(5), 1.0)] * 2,)
    supernet = METHOD.supernet(SPACES["darts"], channels=2, cells=3, classes=3, past=past)
    skips = [module for module in supernet.modules() if isinstance(module, nn.Dropout)]
    # Nine cells of 14 edges, of which eight in each of the two reduction cells have a stride.
    assert len(skips) == 9 * 14 - 2 * 8
    for number, rate in (
        (0, 0.4 * 24 / 25),
        (9, 0.4 * 15 / 25),
        (10, 0.4),
        (24, 0.4 * math.exp(-2.8)),
    ):
        METHOD.begin_epoch(supernet, Epoch(stage=1, number=number, epochs=25, alpha_start=10))
        assert [skip.p for skip in skips] == pytest.approx([rate] * len(skips))


def test_normal_cell_keeps_its_two_strongest_skips():
    alpha = torch.zeros(14, 8)
    alpha[:, NAMES.index("skip_connect")] = torch.linspace(2, 3, 14)
    alpha[:, NAMES.index("sep_conv_5x5")] = 1
    genotype = parse(METHOD.derive(SPACES["darts"], [alpha, alpha])["architecture"])
    skips = [k for k, (name, _) in enumerate(genotype.normal) if name == "skip_connect"]
    assert skips == [6, 7]  # the last node's, whose alphas are the largest
    assert sum(name == "sep_conv_5x5" for name, _ in genotype.normal) == 6
    assert all(name == "skip_connect" for name, _ in genotype.reduce)


def test_searches_in_stages_and_prunes_both_levels():
    search = small_search()
    sizes, lrs = [], []
    while not search.done:
        sizes.append((len(search.supernet.cells), search.train.size, search.valid.size))
        lrs.append(finish_epoch(search)["lr"])
    assert sizes == [
        (3, 30, 30), (3, 30, 30), (3, 24, 24),
        (9, 24, 24), (9, 24, 24), (9, 20, 20),
        (15, 20, 20), (15, 20, 20), (15, 16, 16),
    ]  # fmt: skip
    assert lrs[:3] == lrs[3:6] == lrs[6:]
    assert search.samples_unpruned() == {"train": 270, "valid": 270}


def test_resumes_in_the_second_stage():
    search = small_search()
    while search.epoch < 4:
        finish_epoch(search)
    search.step()
    file = io.BytesIO()
    torch.save({"search": search.state_dict(), "random": torch.get_rng_state()}, file)
    while not search.done:
        finish_epoch(search)

    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = small_search()
    resumed.load_state_dict(state["search"])
    torch.set_rng_state(state["random"])
    while not resumed.done:
        finish_epoch(resumed)
    assert resumed.alpha == search.alpha
    assert resumed.derive() == search.derive()
    assert resumed.samples() == search.samples()


def test_refuses_other_spaces():
    with pytest.raises(UserError, match=r"--method p-darts drops candidates .* give --space darts"):
        Search(SearchConfig.of(method="p-darts"), load("digits", limit=60))
