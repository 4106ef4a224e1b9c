"""When a level is pruned and how many samples are to go."""

from dataclasses import replace
from itertools import accumulate

import pytest

from bdp_ext.pruning import Schedule
from bdp_ext.pruning.schedule import default_interval


def sizes(schedule: Schedule, initial: int) -> list[int]:
    """The level's size after each pruning when nothing is held back."""
    result = [initial]
    for epoch in schedule.prunings:
        result.append(result[-1] - schedule.num_requested(epoch, result[-1], initial))
    return result[1:]


@pytest.mark.parametrize(("ratio", "left"), [(0.2, 13.4), (0.3, 4.0), (0.4, 1.0)])
def test_papers_ratios_leave_the_papers_shares(ratio, left):
    schedule = Schedule(epochs=50, interval=5, ratio=ratio)
    assert schedule.prunings == (5, 10, 15, 20, 25, 30, 35, 40, 45)  # m = 50/5 - 1
    assert sizes(schedule, 25_000)[-1] / 250 == pytest.approx(left, abs=0.05)


@pytest.mark.parametrize(
    ("options", "initial", "expected"),
    [
        ({"ratio": 0.3}, 1000, [700, 490, 343, 241]),  # floor(.3 * 343) = 102
        ({"ratio": 0.2, "kind": "linear"}, 1000, [800, 600, 400, 200]),
        ({"ratio": 0.29}, 100, [71, 51, 37, 27]),  # 29, not int(28.999...)
        ({"keep": 0.1}, 1000, [562, 316, 178, 100]),
        ({"keep": 0.1, "kind": "linear"}, 1000, [775, 550, 325, 100]),
        ({"keep": 1.0}, 1000, [1000, 1000, 1000, 1000]),
        ({"ratio": 0.0}, 1000, [1000, 1000, 1000, 1000]),
    ],
)
def test_sizes_to_the_sample(options, initial, expected):
    assert sizes(Schedule(epochs=10, interval=2, **options), initial) == expected


def test_keep_asks_again_for_what_was_held_back_and_ratio_does_not():
    keep = Schedule(epochs=6, interval=2, keep=0.25)
    assert keep.num_requested(2, 1000, 1000) == 500
    assert keep.num_requested(4, 900, 1000) == 650  # 400 held back: still to reach 250
    ratio = Schedule(epochs=6, interval=2, ratio=0.5)
    assert ratio.num_requested(4, 900, 1000) == 450
    linear = Schedule(epochs=6, interval=2, ratio=0.9, kind="linear")
    assert linear.num_requested(4, 100, 1000) == 900  # more than there is


@pytest.mark.parametrize(
    ("epochs", "interval", "warmup", "prunings"),
    [
        (10, 2, 0, (2, 4, 6, 8)),
        (11, 2, 0, (2, 4, 6, 8, 10)),
        (10, 2, 4, (4, 6, 8)),
        (10, 2, 5, (6, 8)),
        (10, 3, 0, (3, 6, 9)),
        (3, 2, 0, (2,)),
    ],
)
def test_prunings_are_multiples_below_the_end_and_after_the_warmup(
    epochs, interval, warmup, prunings
):
    schedule = Schedule(epochs=epochs, interval=interval, ratio=0.1, warmup=warmup)
    assert schedule.prunings == prunings


@pytest.mark.parametrize(
    ("stages", "options", "prunings"),
    [
        ((25, 25, 25), {"interval": 5}, tuple(range(5, 75, 5))),
        ((25, 25, 25), {"interval": 5, "start": 10}, (15, 20, 25, 40, 45, 50, 65, 70)),
        ((3, 3, 3), {"interval": 2}, (2, 5, 8)),
        ((4, 5, 4), {"interval": 2}, (2, 4, 6, 8, 11)),
        ((4, 5, 4), {"interval": 2, "start": 2}, (4, 8)),
        ((4, 5, 4), {"interval": 2, "start": 3}, ()),
        ((6, 6), {"interval": 2, "warmup": 3}, (4, 6, 10)),
        ((2, 9), {"interval": 4}, (6, 10)),
    ],
)
def test_prunings_count_from_the_beginning_of_each_stage(stages, options, prunings):
    if prunings:
        schedule = Schedule(stages, ratio=0.1, **options)
        assert (schedule.prunings, schedule.all_epochs) == (prunings, sum(stages))
        assert schedule.stage_ends == tuple(accumulate(stages))[:-1]
    else:
        with pytest.raises(ValueError, match=r"4 \+ 5 \+ 4 epochs leave no pruning"):
            Schedule(stages, ratio=0.1, **options)


@pytest.mark.parametrize(
    ("stages", "interval"),
    [((3,), 2), ((4,), 2), ((15,), 3), ((50,), 5), ((25, 25, 25), 5), ((12, 40), 3), ((99,), 5)],
)
def test_interval_is_a_quarter_of_the_shortest_stage_by_default(stages, interval):
    assert default_interval(stages) == interval


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 2}, "take three epochs or more"),
        ({"start": -1}, "start must be >= 0"),
        ({"epochs": 5, "interval": 5}, "leave no pruning"),
        ({"warmup": 10}, "leave no pruning"),
        ({"interval": 1}, "at least 2"),
        ({"ratio": 1.0}, r"\[0, 1\)"),
        ({"ratio": None}, "give either"),
        ({"keep": 0.5}, "give either"),
        ({"ratio": None, "keep": 0.0}, r"\(0, 1\]"),
        ({"kind": "quadratic"}, "geometric"),
        ({"warmup": -1}, "warmup"),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"epochs": 10, "interval": 2, "ratio": 0.3, **options})


@pytest.mark.parametrize("size", [{"ratio": 0.3}, {"keep": 0.2}])
@pytest.mark.parametrize("kind", ["geometric", "linear"])
def test_at_once_asks_at_the_first_pruning_for_what_all_would_take(kind, size):
    gradual = Schedule(12, 3, kind=kind, warmup=4, **size)
    one_shot = replace(gradual, one_shot=True)
    left = 1000
    for epoch in gradual.prunings:
        left -= gradual.num_requested(epoch, left, 1000)
    assert (gradual.prunings, one_shot.prunings) == ((6, 9), (6,))
    assert one_shot.num_requested(6, 1000, 1000) == 1000 - left
    assert one_shot.num_requested(6, 900, 1000) == 900 - left
