"""Every pruner on a small case whose answer is known by hand, by autograd or by trying all."""

import io
import sys
from itertools import combinations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from bdp_ext.errors import UserError
from bdp_ext.pruning import Outputs, Passes, Pruner, Schedule, VoePruner
from bdp_ext.pruning.baselines import (
    PRUNERS,
    DynamicUncertainty,
    El2n,
    Entropy,
    Forgetting,
    Glister,
    GraNd,
    InfoBatch,
    KCenter,
    Random,
    find_pruner,
)
from bdp_ext.pruning.baselines.entropy import BINS, weights
from bdp_ext.pruning.baselines.glister import ROUNDS, STEP, greedy
from bdp_ext.pruning.baselines.k_center import k_center

EVERY = [kind for kind in PRUNERS.values() if kind]
ONCE = Schedule(4, 2, ratio=0.5)  # one pruning, after epoch 2


def right_with(probability: list[float], target: torch.Tensor) -> torch.Tensor:
    """Logits of two classes that give each target its probability."""
    logits = torch.zeros(len(target), 2)
    logits[torch.arange(len(target)), target] = torch.tensor(probability).logit()
    return logits


def watch(pruner: Pruner, *epochs: list[float]) -> Pruner:
    """Show all samples once an epoch, their targets as likely as it says."""
    target = pruner.labels
    for probability in epochs:
        pruner.observe(torch.arange(len(target)), right_with(probability, target), target)
        pruner.end_epoch()
    return pruner


def shown(logits: torch.Tensor, labels: torch.Tensor, features: torch.Tensor) -> Passes:
    whole = Outputs(logits, labels, features)
    return Passes(lambda samples: Outputs(*(part[samples] for part in whole)), lambda: whole)


def random_outputs(samples: int, classes: int = 3, width: int = 5, seed: int = 0) -> Outputs:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(samples, width, generator=generator)
    target = torch.arange(samples) % classes
    return Outputs(torch.randn(samples, classes, generator=generator), target, features)


def test_random_takes_any_and_keeps_the_classes():
    labels = torch.arange(1000) % 4
    schedule = Schedule(8, 2, keep=0.2)
    left = []
    for seed in range(40):
        pruner = Random(labels, schedule, seed=seed)
        for _ in range(8):
            pruner.end_epoch()
        assert pruner.prunings[0].taken == pruner.prunings[0].num_requested == 1000 - 585
        assert pruner.live.numel() == pruner.prunings[-1].after
        left.append(pruner.history.is_live)
    often = torch.stack(left).float().mean(0)  # each sample's share of the 40 draws
    assert 0.18 < often.mean() < 0.25
    # 1000 binomials of 40 draws: none stays always, hardly any goes always.
    assert often.max() < 0.6
    assert (often == 0).sum() < 5


def test_el2n_prunes_once_by_the_mean_error_of_the_first_epochs():
    labels = torch.zeros(4, dtype=torch.int64)
    # Errors sqrt(2) (1 - p): the means of 1 - p are .3, .2, .5, .4.
    pruner = watch(El2n(labels, ONCE), [0.9, 0.7, 0.4, 0.6], [0.5, 0.9, 0.6, 0.6])
    mean = pruner.scores["total"] / pruner.scores["epochs"]
    assert torch.allclose(mean, 2**0.5 * torch.tensor([0.3, 0.2, 0.5, 0.4]))
    assert pruner.live.tolist() == [2, 3]
    hard = watch(
        El2n(labels, ONCE, criterion="highest"), [0.9, 0.7, 0.4, 0.6], [0.5, 0.9, 0.6, 0.6]
    )
    assert hard.live.tolist() == [0, 1]


def test_only_the_first_pass_of_an_epoch_counts():
    labels = torch.zeros(2, dtype=torch.int64)
    pruner = El2n(labels, ONCE)
    for probability in ([0.9, 0.2], [0.1, 0.1]):
        pruner.observe(torch.arange(2), right_with(probability, labels), labels)
    pruner.end_epoch()
    assert torch.allclose(pruner.scores["total"], 2**0.5 * torch.tensor([0.1, 0.8]))


def test_one_shot_goes_where_the_schedule_would_end_and_then_rests():
    labels = torch.arange(1000) % 2
    step_by_step = VoePruner(labels, Schedule(8, 2, ratio=0.3)).schedule
    left = 1000
    for epoch in step_by_step.prunings:
        left -= step_by_step.num_requested(epoch, left, 1000)
    pruner = El2n(labels, Schedule(8, 2, ratio=0.3))
    watch(pruner, *[torch.linspace(0.1, 0.9, 1000).tolist()] * 8)
    assert [row["epoch"] for row in pruner.report()] == [2]
    assert pruner.live.numel() == left == 343
    assert int(pruner.live.max()) == 342  # the likeliest are the easiest: they went
    assert int(pruner.scores["epochs"].max()) == 2  # nothing is scored any more


def test_grand_is_the_norm_of_the_last_layers_gradient():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    features, target = torch.randn(6, 5), torch.zeros(6, dtype=torch.int64)
    logits = layer(features)
    norms = []
    for i in range(6):
        loss = cross_entropy(logits[i : i + 1], target[i : i + 1])
        gradients = torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True)
        norms.append(torch.cat([gradient.flatten() for gradient in gradients]).norm())
    pruner = GraNd(target, ONCE)
    for _ in range(2):
        pruner.observe(torch.arange(6), logits, target, features)
        pruner.end_epoch()
    assert torch.allclose(pruner.scores["total"] / 2, torch.stack(norms), rtol=1e-5)
    assert pruner.live.tolist() == torch.stack(norms).topk(3).indices.sort().values.tolist()
    with pytest.raises(ValueError, match="grand pruner needs features"):
        GraNd(target, ONCE).observe(torch.arange(6), logits, target)


def test_forgetting_counts_falls_from_right_to_wrong():
    labels = torch.zeros(5, dtype=torch.int64)
    right, wrong = 0.9, 0.1
    pruner = watch(
        Forgetting(labels, Schedule(6, 5, ratio=0.6)),
        [right, right, right, wrong, wrong],
        [right, wrong, wrong, wrong, right],
        [right, right, wrong, wrong, right],
        [right, wrong, wrong, wrong, right],
        [right, right, right, wrong, right],
    )
    assert pruner.scores["events"].tolist() == [0, 2, 1, 0, 0]
    # The never forgotten ones go first, then the one forgotten once; what was never right stays.
    assert pruner.live.tolist() == [1, 3]


def test_forgetting_draws_among_equals():
    labels = torch.zeros(100, dtype=torch.int64)
    left = {
        tuple(watch(Forgetting(labels, ONCE, seed=seed), *[[0.9] * 100] * 2).live.tolist())
        for seed in range(3)
    }
    assert len(left) == 3
    assert all(len(live) == 50 for live in left)


def test_dynamic_uncertainty_is_the_mean_deviation_over_the_windows():
    labels = torch.zeros(3, dtype=torch.int64)
    probability = [[0.5, 0.2, 0.9], [0.5, 0.8, 0.7], [0.6, 0.8, 0.9], [0.5, 0.8, 0.7]]
    pruner = watch(DynamicUncertainty(labels, Schedule(5, 2, ratio=0.34)), *probability)
    p = torch.tensor(probability)
    windows = torch.stack([p[i : i + 2].std(0) for i in range(3)])
    # At the first pruning there was one window, and the deviation of sample 0 was zero.
    assert pruner.report()[0]["taken"] == 1
    assert pruner.live.tolist() == [1, 2]
    mean = pruner.scores["total"] / pruner.scores["windows"]
    assert torch.allclose(mean, windows.mean(0), atol=1e-6)


def test_dynamic_uncertainty_leaves_out_windows_with_a_gap():
    labels = torch.zeros(2, dtype=torch.int64)
    pruner = DynamicUncertainty(labels, Schedule(8, 3, ratio=0.5))
    for epoch, index in enumerate(([0, 1], [0], [0, 1], [0, 1], [0, 1])):
        target = labels[index]
        pruner.observe(torch.tensor(index), right_with([0.1 * epoch] * len(index), target), target)
        pruner.end_epoch()
    assert pruner.scores["windows"].tolist() == [3, 1]
    assert pruner.prunings[0].unscored == 1  # after epoch 3 sample 1 had no whole window
    assert pruner.live.tolist() == [1]


def test_entropy_prefers_rare_entropies():
    sure, unsure = [9.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    logits = torch.tensor([sure] * 8 + [unsure] * 2)
    assert BINS > 1
    weight = weights(logits)
    assert torch.equal(weight[:8], torch.full((8,), 1 / 8).double())  # (8 - 8 + 1) / 8
    assert torch.equal(weight[8:], torch.full((2,), 7 / 2).double())  # (8 - 2 + 1) / 2
    labels = torch.zeros(10, dtype=torch.int64)
    rare = 0
    for seed in range(400):
        pruner = Entropy(labels, Schedule(4, 2, keep=0.1), seed=seed)
        for _ in range(2):
            pruner.end_epoch(shown(logits, labels, logits[:, :0]))
        assert pruner.live.numel() == 1
        rare += int(pruner.live) >= 8
    assert abs(rare / 400 - 7 / 8) < 0.05  # three standard deviations


def test_entropy_is_uniform_where_all_entropies_are_alike():
    assert weights(torch.zeros(5, 3)).tolist() == [1 / 5] * 5


def test_k_center_takes_the_middle_then_the_ends():
    x = torch.arange(11.0)[:, None]
    # Middle 5, then the ends 0 and 10 (ties: the lower first), then 2, which is two away from both
    # of its neighbours, as 3, 7 and 8 are.
    score = k_center(x, 4)
    assert score.argsort(descending=True)[:4].tolist() == [5, 0, 10, 2]
    # The others by their distance to the nearest centre.
    others = [1, 3, 4, 6, 7, 8, 9]
    assert torch.allclose(score[others] / score[7], torch.tensor([1, 1, 1, 1, 2, 2, 1]) / 2)
    assert score[others].max() < 1
    labels = torch.zeros(11, dtype=torch.int64)
    pruner = KCenter(labels, Schedule(4, 2, keep=4 / 11))
    for _ in range(4):
        pruner.end_epoch(shown(x, labels, x))
    assert pruner.live.tolist() == [0, 2, 5, 10]


def test_k_center_is_within_twice_the_best_radius():
    x = random_outputs(12).features
    away = torch.cdist(x, x)
    for k in (1, 2, 4):
        chosen = k_center(x, k).topk(k).indices
        best = min(
            float(away[:, list(some)].min(1).values.max()) for some in combinations(range(12), k)
        )
        assert float(away[:, chosen].min(1).values.max()) <= 2 * best


def test_k_center_chooses_no_point_twice():
    score = k_center(torch.zeros(5, 2), 3)
    assert sorted(score.tolist(), reverse=True)[:3] == [3, 2, 1]
    assert (score < 1).sum() == 2


def test_glister_chooses_first_what_lowers_the_other_loss_most():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    own, held = random_outputs(9), random_outputs(30, seed=1)
    own, held = (Outputs(layer(o.features).detach(), o.target, o.features) for o in (own, held))
    after = []
    for i in range(9):
        loss = cross_entropy(layer(own.features[i : i + 1]), own.target[i : i + 1])
        gradients = torch.autograd.grad(loss, list(layer.parameters()))
        weight, bias = (p - STEP * g for p, g in zip(layer.parameters(), gradients, strict=True))
        after.append(cross_entropy(held.features @ weight.T + bias, held.target))
    order = greedy(own, held, 3)
    assert sorted(order.tolist()) == list(range(9))
    assert int(order[0]) == int(torch.stack(after).argmin())


def test_glister_looks_again_after_each_round():
    # Two useful directions: after enough of the first one, the second gains more.
    own = Outputs(
        torch.zeros(4 * ROUNDS, 2),
        torch.zeros(4 * ROUNDS, dtype=torch.int64),
        torch.eye(2).repeat(2 * ROUNDS, 1) * 100,
    )
    held = Outputs(torch.zeros(2, 2), torch.zeros(2, dtype=torch.int64), torch.eye(2) * 100)
    held.features[0] *= 1.01
    order = greedy(own, held, 2 * ROUNDS)
    first = [int((order[: 2 * r] % 2 == 0).sum()) for r in range(1, ROUNDS + 1)]
    assert first[0] == 2  # the first round: both of the better direction
    assert abs(first[-1] - ROUNDS) <= 2  # in the end half of each


def test_glister_lets_samples_come_back_and_keeps_every_class_alike():
    labels = torch.arange(60) % 3
    pruner = Glister(labels, Schedule(6, 2, keep=0.25))
    lives = []
    for seed in range(6):
        outputs = random_outputs(60, seed=seed)
        if pruner.end_epoch(shown(outputs.logits, labels, outputs.features)):
            lives.append(set(pruner.live.tolist()))
    assert [len(live) for live in lives] == [30, 15]
    assert lives[1] - lives[0]
    assert labels[pruner.live].bincount().tolist() == [5, 5, 5]
    assert [(row["before"], row["taken"], row["after"]) for row in pruner.report()] == [
        (60, 30, 30),
        (60, 45, 15),
    ]


@pytest.mark.parametrize("kind", [Entropy, KCenter, Glister])
def test_what_needs_passes_says_so(kind):
    pruner = kind(torch.zeros(4, dtype=torch.int64), ONCE)
    pruner.end_epoch()
    with pytest.raises(ValueError, match=f"{kind.name} pruner needs forward passes"):
        pruner.end_epoch()


def test_infobatch_leaves_out_easy_samples_and_counts_the_others_more():
    labels = torch.zeros(8, dtype=torch.int64)
    pruner = InfoBatch(labels, Schedule(8, 2, ratio=0.5))
    assert torch.equal(pruner.weights, torch.ones(8))
    probability = [0.9] * 4 + [0.1] * 4  # the mean loss lies between
    seen = set()
    for epoch in range(1, 7):
        watch(pruner, probability)
        assert pruner.epoch == epoch
        live = pruner.live
        assert live[-4:].tolist() == [4, 5, 6, 7]  # the hard ones stay
        assert live.numel() == 6
        assert pruner.weights[live].tolist() == [2, 2, 1, 1, 1, 1]
        assert float(pruner.weights[live].sum()) == 8
        seen.add(tuple(live.tolist()))
    assert len(seen) > 1  # it draws anew
    watch(pruner, probability)  # the eighth epoch is the last eighth: all samples
    assert pruner.live.numel() == 8
    assert torch.equal(pruner.weights, torch.ones(8))
    watch(pruner, probability)
    assert [row["epoch"] for row in pruner.report()] == list(range(1, 8))


def test_infobatch_keeps_the_expected_gradient():
    labels = torch.zeros(40, dtype=torch.int64)
    probability = torch.linspace(0.05, 0.95, 40)
    gradient = probability - 1  # of the loss by the target's logit, from p alone
    sums = []
    for seed in range(300):
        pruner = InfoBatch(labels, Schedule(8, 2, ratio=0.6), seed=seed)
        watch(pruner, probability.tolist())
        sums.append((gradient * pruner.weights)[pruner.live].sum())
    sums = torch.stack(sums)
    assert abs(float(sums.mean() - gradient.sum())) < 4 * float(sums.std()) / 300**0.5


@pytest.mark.parametrize("kind", EVERY, ids=[kind.name for kind in EVERY])
def test_state_round_trip_ends_in_the_same_set(kind):
    labels = torch.arange(60) % 3

    def run(pruner: Pruner, epochs: range) -> None:
        for epoch in epochs:
            outputs = random_outputs(60, seed=epoch)
            live = pruner.live
            first, rest = live[: len(live) // 2], live[len(live) // 2 :]
            for index in (first, rest):
                pruner.observe(index, outputs.logits[index], labels[index], outputs.features[index])
            pruner.end_epoch(shown(outputs.logits, labels, outputs.features))

    schedule = Schedule(12, 3, keep=0.3)
    whole, resumed = kind(labels, schedule, seed=1), kind(labels, schedule, seed=2)
    run(whole, range(5))
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    run(whole, range(5, 12))
    run(resumed, range(5, 12))
    assert whole.prunings
    assert whole.report() == resumed.report()
    assert torch.equal(whole.live, resumed.live)


@pytest.mark.parametrize("kind", EVERY, ids=[kind.name for kind in EVERY])
def test_forgets_another_networks_scores(kind):
    labels = torch.arange(20) % 2
    pruner, fresh = kind(labels, ONCE), kind(labels, ONCE)
    outputs = random_outputs(20, classes=2)
    pruner.observe(torch.arange(20), outputs.logits, labels, outputs.features)
    pruner.end_epoch(shown(outputs.logits, labels, outputs.features))
    pruner.reset()
    for name, score in fresh.scores.items():
        assert torch.equal(pruner.scores[name].nan_to_num(9), score.nan_to_num(9))


def test_a_pruner_of_ones_own_is_found_by_its_module(tmp_path, monkeypatch):
    (tmp_path / "own_pruner.py").write_text(
        "from bdp_ext.pruning.baselines import Random\n"
        "class Own(Random):\n    name = 'own'\nclass Odd: ...\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    assert find_pruner("own_pruner:Own").name == "own"
    assert find_pruner("none") is None
    with pytest.raises(UserError, match="is no pruner: it has no"):
        find_pruner("own_pruner:Odd")
    with pytest.raises(UserError, match="--pruner must be one of bdp, none, random, el2n"):
        find_pruner("best")
