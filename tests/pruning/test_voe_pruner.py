"""One level's pruner: sizes to the sample, criteria, caps, report."""

import pytest
import torch

from bdp_ext.pruning import Schedule, VoePruner, balance_degree

CLASSES = 5


def labels_of(*counts: int) -> torch.Tensor:
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


def logits_for(index: torch.Tensor, labels: torch.Tensor, epoch: int) -> torch.Tensor:
    """Errors that vary over the epochs, more the larger the sample's index."""
    logits = torch.zeros(len(index), CLASSES)
    swing = index / labels.numel() * (1 if epoch % 2 else -1)
    logits[torch.arange(len(index)), labels[index]] = swing
    return logits


def run(pruner: VoePruner, labels: torch.Tensor, epochs: int) -> list[int]:
    sizes = []
    for epoch in range(epochs):
        index = pruner.live
        pruner.observe(index, logits_for(index, labels, epoch), labels[index])
        pruner.end_epoch()
        sizes.append(pruner.live.numel())
    return sizes


@pytest.mark.parametrize(("criterion", "first"), [("lowest", 0), ("highest", 970)])
def test_takes_the_most_extreme_and_follows_the_schedule(criterion, first):
    labels = torch.arange(1000) % CLASSES  # every class spread evenly over the indices
    pruner = VoePruner(labels, Schedule(8, 2, ratio=0.03), criterion=criterion)
    assert run(pruner, labels, 8) == [1000, 970, 970, 941, 941, 913, 913, 913]
    once = VoePruner(labels, Schedule(3, 2, ratio=0.03), criterion=criterion)
    run(once, labels, 3)
    gone = torch.arange(1000)[~torch.isin(torch.arange(1000), once.live)]
    assert torch.equal(gone, torch.arange(first, first + 30))


def test_random_takes_the_same_amount_and_depends_on_the_seed():
    labels = torch.arange(1000) % CLASSES
    left = []
    for seed in (0, 0, 1):
        pruner = VoePruner(labels, Schedule(8, 2, keep=0.2), criterion="random", seed=seed)
        sizes = run(pruner, labels, 8)
        assert pruner.prunings[-1].num_requested >= pruner.prunings[-1].taken > 0
        assert sizes[-1] == pruner.live.numel()
        left.append(pruner.live)
    assert torch.equal(left[0], left[1])
    assert not torch.equal(left[0], left[2])


def test_caps_hold_back_and_the_report_says_why():
    labels = labels_of(200, 200, 200, 200, 200)  # class 0 has the lowest VoE of all
    pruner = VoePruner(labels, Schedule(8, 2, keep=0.1), criterion="lowest")
    run(pruner, labels, 4)
    first, second = pruner.prunings
    assert first.balance_before == 1.0
    assert first.num_requested == first.taken == 1000 - round(1000 * 0.1 ** (1 / 3))
    assert first.capped_classes == [0, 1]  # min_per_class: 199 of their 200 went
    assert second.balance_before == first.balance_after < 1.0
    assert second.taken < second.num_requested  # the caps bind
    assert second.after == second.before - second.taken == pruner.live.numel()
    counts = torch.bincount(labels[pruner.live], minlength=CLASSES)
    assert second.balance_after == balance_degree(counts)
    assert (counts >= 1).all()
    run(pruner, labels, 4)
    third = pruner.prunings[2]
    assert third.num_requested == third.before - 100  # what was held back is asked for again


def test_capped_classes_are_those_passed_over():
    labels = labels_of(10, 10, 10)
    caps = torch.tensor([2, 10, 10])
    pruner = VoePruner(labels, Schedule(3, 2, ratio=0.2), balance=lambda *_: caps)
    run(pruner, labels, 3)
    assert pruner.prunings[0].taken == pruner.prunings[0].num_requested == 6
    assert pruner.prunings[0].capped_classes == [0]
    assert pruner.live.tolist()[:8] == list(range(2, 10))
    starved = VoePruner(labels, Schedule(3, 2, ratio=0.9), balance=lambda *_: caps - 1)
    run(starved, labels, 3)
    assert (starved.prunings[0].num_requested, starved.prunings[0].taken) == (27, 1 + 9 + 9)
    assert starved.prunings[0].capped_classes == [0, 1, 2]


def test_without_balance_only_min_per_class_holds():
    labels = labels_of(100, 100, 100, 100, 100)
    pruner = VoePruner(labels, Schedule(8, 2, keep=0.1), balance="none", min_per_class=7)
    run(pruner, labels, 8)
    assert pruner.live.numel() == 50
    assert torch.bincount(labels[pruner.live]).min() >= 7


def test_sample_without_two_scores_is_never_pruned():
    labels = torch.arange(100) % CLASSES
    pruner = VoePruner(labels, Schedule(3, 2, ratio=0.9))
    for epoch in range(2):
        index = torch.arange(50) if epoch else torch.arange(100)
        pruner.observe(index, logits_for(index, labels, epoch), labels[index])
        pruner.end_epoch()
    assert torch.isin(torch.arange(50, 100), pruner.live).all()
    assert pruner.prunings[0].unscored == 50
    assert (pruner.prunings[0].num_requested, pruner.prunings[0].taken) == (90, 50)


def test_classes_without_samples_do_not_count():
    labels = torch.tensor([1, 1, 4, 4, 9, 9])
    assert VoePruner(labels, Schedule(3, 2, ratio=0.1)).balance == 1.0


def test_one_class():
    labels = torch.zeros(10, dtype=torch.int64)
    pruner = VoePruner(labels, Schedule(8, 2, ratio=0.5))
    assert run(pruner, labels, 8)[-1] == 2
    assert pruner.balance == 1.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": torch.zeros(0, dtype=torch.int64)}, "labels"),
        ({"labels": torch.zeros(3)}, "labels"),
        ({"labels": torch.tensor([0, -1])}, "labels"),
        ({"criterion": "medium"}, "criterion"),
        ({"balance": "papers"}, "balance"),
        ({"min_per_class": 0}, "min_per_class"),
    ],
)
def test_refuses(options, message):
    arguments = {"labels": torch.tensor([0, 1]), "schedule": Schedule(10, 2, ratio=0.1), **options}
    with pytest.raises(ValueError, match=message):
        VoePruner(arguments.pop("labels"), arguments.pop("schedule"), **arguments)
