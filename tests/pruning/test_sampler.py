"""Index batches over a level that shrinks."""

import pytest
import torch

from bdp_ext.pruning import LiveSampler, samples_drawn


def one_pass(sampler: LiveSampler) -> list[torch.Tensor]:
    batches = [sampler.next_batch()]
    while not sampler.pass_done:
        batches.append(sampler.next_batch())
    return batches


@pytest.mark.parametrize(
    ("samples", "sizes"),
    [(10, [4, 4, 2]), (9, [4, 4]), (8, [4, 4]), (3, [3]), (2, [2])],
)
def test_partial_batch_is_used_unless_it_is_a_single_sample(samples, sizes):
    batches = one_pass(LiveSampler(samples, 4, seed=0))
    assert [len(batch) for batch in batches] == sizes
    assert torch.cat(batches).unique().numel() == sum(sizes)


def test_batch_size_one_uses_every_sample():
    assert len(one_pass(LiveSampler(3, 1, seed=0))) == 3


def test_passes_differ_and_seeds_differ():
    sampler = LiveSampler(100, 100, seed=0)
    first, second = sampler.next_batch(), sampler.next_batch()
    assert not torch.equal(first, second)
    assert torch.equal(first, LiveSampler(100, 100, seed=0).next_batch())
    assert not torch.equal(first, LiveSampler(100, 100, seed=1).next_batch())


def test_pruned_sample_leaves_the_pass_under_way():
    sampler = LiveSampler(100, 10, seed=0)
    seen = sampler.next_batch()
    live = torch.arange(0, 100, 2)
    sampler.keep(live)
    rest = torch.cat([sampler.next_batch()] + ([] if sampler.pass_done else one_pass(sampler)))
    expected = live[~torch.isin(live, seen)]
    assert torch.equal(rest.sort().values, expected)
    assert torch.equal(torch.cat(one_pass(sampler)).sort().values, live)


def test_pruning_that_leaves_a_single_pending_sample_ends_the_pass():
    sampler = LiveSampler(8, 4, seed=0)
    seen = sampler.next_batch()
    pending = torch.arange(8)[~torch.isin(torch.arange(8), seen)]
    sampler.keep(torch.cat([seen, pending[:1]]).sort().values)
    assert sampler.pass_done


def test_state_round_trip_in_mid_pass():
    sampler, other = LiveSampler(50, 8, seed=3), LiveSampler(50, 8, seed=4)
    sampler.next_batch()
    sampler.keep(torch.arange(40))
    other.load_state_dict(sampler.state_dict())
    for _ in range(20):
        assert torch.equal(sampler.next_batch(), other.next_batch())


@pytest.mark.parametrize("samples", [2, 5, 8, 9, 64, 65, 66])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_samples_drawn_counts_what_is_drawn(samples, batch_size):
    sampler, drawn = LiveSampler(samples, batch_size, seed=0), 0
    for batches in range(1, 40):
        drawn += sampler.next_batch().numel()
        assert samples_drawn(samples, batch_size, batches) == drawn
