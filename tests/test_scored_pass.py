"""A forward pass that is scored and hooked in one call of C++."""

import gc
import weakref
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from bdp_ext import ops
from bdp_ext.dropin import _native
from bdp_ext.ops import libraries

pytestmark = pytest.mark.skipif(
    not (libraries.loaded("cpu") and hasattr(torch.Tensor, "__dlpack_c_exchange_api__")),
    reason="needs the compiled library, and DLPack's C structures in torch",
)

SAMPLES, CLASSES = 40, 5


class Level:
    """As much of a level as C++ reads."""

    def __init__(self, labels, position):
        self.samples = _native.samples(labels, position)
        self.row = torch.full((len(labels),), float("nan"))


class Hook(_native.CriterionHook):
    """Keeps the calls that are left to Python."""

    def __init__(self, watch):
        self.watch = watch
        self.left = []

    def note(self, *given):
        self.left.append(given)


class Batch:
    """Eight samples; sample n stands at place 39 - n of its level."""

    def __init__(self, index=(7, 3, 39, 0, 12, 5, 8, 21), dtype=torch.float32):
        self.labels = torch.arange(SAMPLES) % CLASSES
        self.position = torch.arange(SAMPLES - 1, -1, -1)
        self.index = list(index)
        self.target = self.labels[self.index]
        weight = torch.randn(len(self.index), CLASSES, requires_grad=True)
        self.logits = (2 * weight).to(dtype)
        self.reached = []

    def score(self, **other):
        """The pass, of number 3; None where it is left to Python."""
        given = SimpleNamespace(**{**vars(self), **other})
        self.level = Level(given.labels, given.position)
        index = given.index if isinstance(given.index, str) else _native.pack_index(given.index)
        self.drawn = _native.Drawn(self.level, "its pass", index, given.target)
        return self.note(given, {"none": deque(), "train": deque([self.drawn, "an older one"])})

    def note(self, given, levels):
        watch = self.watch = _native.Watch()
        watch.reached, watch.levels, watch.calls = self.reached, levels, 2
        hook = Hook(lambda: watch)
        hook("criterion", (given.logits, given.target), {}, "loss")
        if hook.left:
            assert hook.left == [("criterion", (given.logits, given.target), {}, "loss")]
            assert (watch.calls, watch.newest, watch.target) == (2, None, None)
        else:
            assert (watch.calls, watch.target) == (3, given.target)
        return watch.newest


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("strided", [False, True])
def test_scores_stand_where_the_samples_do(dtype, strided):
    batch = Batch(dtype=dtype)
    if strided:
        batch.logits = torch.cat([batch.logits, batch.logits], 1)[:, 2 : 2 + CLASSES]
    scored = batch.score()
    assert (scored.order, scored.turn) == (3, batch.drawn.turn)
    assert (scored.turn.level, scored.turn.of, scored.turn.scored) == (batch.level, "its pass", 0)
    assert scored.address == batch.logits.data_ptr()
    assert _native.settle([scored], 0) == {"its pass": 1}
    row = batch.level.row
    assert torch.equal(row[batch.position[batch.index]], ops.el2n(batch.logits, batch.target))
    assert int(row.isnan().sum()) == SAMPLES - len(batch.index)


def test_it_is_noted_when_a_backward_pass_reaches_it_and_not_before():
    batch = Batch()
    scored = batch.score()
    other = Batch()
    other.logits.sum().backward()
    assert batch.reached == []
    batch.logits.sum().backward()
    assert batch.reached == [scored]


def test_a_score_that_is_there_stays_and_the_last_row_of_a_sample_counts():
    batch = Batch(index=(7, 3, 7))
    expected = ops.el2n(batch.logits, batch.target)
    scored = batch.score()
    row = batch.level.row
    row[batch.position[3]] = 0.25
    _native.settle([scored], 0)
    assert row[batch.position[3]] == 0.25
    assert row[batch.position[7]] == expected[2] != expected[0]


def passes(count):
    """Forward passes 1, 2, ... of one batch, each with logits of its own."""
    batch = Batch()
    batch.score()
    made = []
    for order in range(1, count + 1):
        batch.logits = 2 * torch.randn(len(batch.index), CLASSES, requires_grad=True)
        batch.watch.calls = order - 1
        hook = Hook(lambda: batch.watch)
        hook("criterion", (batch.logits, batch.target), {}, "loss")
        made.append((batch.watch.newest, ops.el2n(batch.logits, batch.target)))
    return batch, *zip(*made, strict=True)


def test_of_a_batch_the_first_pass_of_an_epoch_counts_in_whatever_order_they_were_reached():
    batch, (first, second, third, fourth), scores = passes(4)
    where = batch.position[batch.index]
    reached = [third, second, second]
    assert _native.settle(reached, 0) == {"its pass": 1}
    assert reached == []
    assert torch.equal(batch.level.row[where], scores[1])
    assert first.turn.scored == 2
    assert _native.settle([first, third, second], 0) == {}  # in the same epoch
    assert _native.settle([], 0) == {}
    batch.level.row = torch.full((SAMPLES,), float("nan"))
    assert _native.settle([fourth, first, second], 3) == {"its pass": 0}  # trained before
    assert torch.equal(batch.level.row[where], scores[3])
    assert first.turn.scored == 4


def test_passes_of_a_level_that_is_not_pruned_are_counted():
    batch, given, _ = passes(1)
    batch.level.row = None
    assert _native.settle([*given], 0) == {"its pass": 1}


def test_passes_among_others_are_left_to_python():
    batch, (first, second), _ = passes(2)
    reached = [second, "unscored", first]
    assert _native.settle(reached, 0) is None
    assert reached == [second, "unscored", first]
    assert batch.level.row.isnan().all()
    assert first.turn.scored == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda b: {"logits": b.logits.double()},
        lambda b: {"logits": b.logits.t().contiguous().t()},
        lambda b: {"logits": b.logits[:4]},
        lambda b: {"logits": b.logits.detach()},
        lambda b: {"logits": b.logits[None]},
        lambda b: {"logits": nn.Parameter(b.logits.detach())},
        lambda b: {"logits": b.logits.chunk(2, 1)[1]},
        lambda b: {"logits": b.logits.to("meta")},
        lambda b: {"logits": 3},
        lambda b: {"target": b.target.int()},
        lambda b: {"target": (b.target + 1) % CLASSES},
        lambda b: {"target": b.target[:, None]},
        lambda b: {"index": "12345678" * 4},
        lambda b: {"index": b.index[:4]},
        lambda b: {"index": [], "target": b.target[:0], "logits": b.logits[:0]},
        lambda b: {"index": [*b.index[:-1], SAMPLES]},
        lambda b: {"index": [*b.index[:-1], -1]},
        lambda b: {"position": torch.full((SAMPLES,), -1)},
        lambda b: {"position": b.position[:-1]},
        lambda b: {"labels": b.labels + CLASSES, "target": b.target + CLASSES},
        lambda b: {"labels": b.labels - CLASSES, "target": b.target - CLASSES},
    ],
)
def test_what_is_unusual_is_left_to_python(change):
    batch = Batch()
    changed = change(batch)
    assert batch.score(**changed) is None
    logits = changed.get("logits", batch.logits)
    if isinstance(logits, Tensor) and logits.requires_grad and not logits.is_meta:
        logits.sum().backward()
    assert batch.reached == []


def test_only_the_newest_batch_of_a_level_is_known_and_only_by_its_very_tensor():
    batch = Batch()
    batch.score()
    index = batch.drawn.index
    copy = _native.Drawn(batch.level, "its pass", index, batch.target.clone())
    for drawn in [], [copy], [copy, batch.drawn], ["no batch", batch.drawn]:
        assert batch.note(batch, {"train": deque(drawn)}) is None
    assert batch.note(batch, {"valid": [copy], "train": [batch.drawn]}) is not None


VIEWS = [lambda t: t.squeeze(), lambda t: t.view(4, 2, -1).view(8, -1)]


@pytest.mark.parametrize("view", VIEWS, ids=["squeezed", "viewed twice"])
def test_logits_have_an_address_until_their_memory_is_gone(view):
    batch = Batch()
    address = batch.logits.data_ptr()
    scored = batch.score(logits=view(batch.logits))
    assert scored.address == address
    del batch.logits
    assert scored.address == 0


def test_logits_that_python_has_only_views_of_keep_their_address():
    batch = Batch()
    out = batch.logits.view(4, 2, -1)
    del batch.logits
    scored = batch.score(logits=out.view(8, -1))
    gc.collect()
    assert scored.address == out.data_ptr()
    del out
    assert scored.address == 0


@pytest.mark.parametrize(
    "change",
    [
        {"kwargs": {"weight": None}},
        {"args": "logits only"},
        {"watch": lambda: None},
        {"strange": True},
        {"reached": None},
        {"levels": []},
    ],
)
def test_what_else_is_left_to_python(change):
    batch = Batch()
    batch.score()
    watch = batch.watch
    for name in change.keys() & {"strange", "reached", "levels"}:
        setattr(watch, name, change[name])
    hook = Hook(change.get("watch", lambda: watch))
    args = (batch.logits,) if "args" in change else (batch.logits, batch.target)
    hook("criterion", args, change.get("kwargs", {}), "loss")
    assert len(hook.left) == 1
    assert watch.calls == 3


def test_wrong_calls_are_errors():
    batch = Batch()
    with pytest.raises(TypeError, match="Drawn"):
        _native.Drawn(batch.target)
    with pytest.raises(ZeroDivisionError):
        Hook(lambda: 1 // 0)("criterion", (batch.logits, batch.target), {}, "loss")
    with pytest.raises(TypeError, match="settle"):
        _native.settle((), 0)
    for row in torch.zeros(SAMPLES, dtype=torch.float64), torch.full((10,), float("nan")):
        batch, (scored,), _ = passes(1)
        batch.level.row, before = row, row.nan_to_num(9)
        with pytest.raises(TypeError, match="float32 on the CPU and have all"):
            _native.settle([scored], 0)
        assert torch.equal(row.nan_to_num(9), before)
        assert scored.turn.scored == 0


def test_passes_that_nothing_reaches_are_freed():
    batch = Batch()
    batch.score()
    gone = weakref.ref(batch.level)
    del batch
    Batch().score()  # the newest one may be kept
    gc.collect()
    assert gone() is None


def test_records_that_hold_one_another_are_freed():
    class Kept(_native.Drawn):
        pass

    level = Level(torch.zeros(1).long(), torch.zeros(1).long())
    level.drawn = Kept(level, "its pass", b"", torch.zeros(1))
    level.drawn.own = level.drawn
    level.watch = _native.Watch()
    level.watch.newest = level.watch
    level.hook = Hook(level)
    gone = weakref.ref(level)
    del level
    gc.collect()
    assert gone() is None


def test_a_pass_in_the_list_that_it_holds_is_freed():
    batch = Batch()
    scored = batch.score()
    scored(None)
    gone = weakref.ref(batch.logits)
    del batch, scored
    gc.collect()
    assert gone() is None
