"""What `bdp_ext.prune` tells in the log: a loop that it may not serve, once, and what to do."""

import pytest
import torch
from common import Network, loop, queues
from torch import nn

import bdp_ext
from dropin.test_errors import call


def test_alpha_trained_with_another_criterion_is_said_once(caplog):
    criterion, copied = nn.CrossEntropyLoss(), nn.CrossEntropyLoss()
    train_queue, valid_queue = call(loss=criterion, epochs=7, interval=2)
    model = Network()
    for _ in range(7):
        for images, target in train_queue:
            search, labels = next(iter(valid_queue))
            copied(model(search), labels).backward()
            criterion(model(images), target).backward()
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert "epoch 2: no sample of the valid level has two scores" in said
    assert "pass both, and call bdp_ext.prune before the criterion is copied" in said


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("epochs", [2, 6])
def test_loaders_that_are_gone_are_said_once(caplog, epochs, kept):
    """In the middle of a search; after it, the loop may train on what it likes."""
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, valid_queue = call(loss=criterion, epochs=7, interval=2)
    loop(train_queue, valid_queue, criterion, epochs=epochs, model=model)
    pruner = train_queue.pruner if kept else None  # for its report
    del train_queue, valid_queue
    caplog.clear()
    with torch.no_grad():
        criterion(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
    assert not caplog.records
    loop(*queues(), criterion, model=model)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (epochs < 6)
    assert pruner is None or (pruner.epoch, pruner.unmatched) == (epochs, 0)
    assert all("pruner.adopt(train_queue, valid_queue)" in message for message in said)


def test_a_search_that_begins_anew_is_no_loss(caplog):
    criterion, model = nn.CrossEntropyLoss(), Network()
    for _ in range(2):
        train_queue, valid_queue = call(loss=criterion, epochs=7, interval=2)
        loop(train_queue, valid_queue, criterion, model=model)
    assert not caplog.records
    assert train_queue.pruner.epoch == 1


@pytest.mark.parametrize("hooked", ["criterion", "model"])
def test_a_loop_over_the_loaders_as_they_were_given(hooked, caplog):
    criterion, model, given = nn.CrossEntropyLoss(), Network(), queues()
    options = {"loss": criterion} if hooked == "criterion" else {"model": model}
    train_queue, valid_queue = bdp_ext.prune(*given, epochs=10, **options)
    loop(*given, criterion, epochs=9, model=model)
    assert not caplog.records
    loop(*given, criterion, epochs=9, model=model)
    assert ["let the loop use those" in record.message for record in caplog.records] == [True]
    loop(train_queue, valid_queue, criterion, model=model)
    assert (train_queue.pruner.epoch, train_queue.pruner.unmatched) == (1, 0)


def test_a_loop_that_catches_everything_goes_on_and_finds_it_in_the_log(caplog):
    """PR-DARTS joins batches, and begins a new pass after any exception."""
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, _valid_queue = call(loss=criterion)
    batches = iter(train_queue)
    for _ in range(3 * len(train_queue)):
        joined = []
        while len(joined) < 2:
            try:
                joined.append(next(batches))
            except Exception:
                batches = iter(train_queue)
        images, target = (torch.cat(parts) for parts in zip(*joined, strict=True))
        criterion(model(images), target).backward()
    (said,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert "joined on the way" in said


def alternate(train_queue, valid_queue, criterion, model, epochs):
    """FBNet: a pass of the weights, then one of alpha."""
    for _ in range(epochs):
        for queue in (train_queue, valid_queue):
            for images, target in queue:
                criterion(model(images), target).backward()


def test_a_pass_of_alpha_after_the_pass_of_the_weights_is_told(caplog):
    criterion = nn.CrossEntropyLoss()
    train_queue, valid_queue = call(loss=criterion, epochs=5, interval=2)
    alternate(train_queue, valid_queue, criterion, Network(), 3)
    assert [r.getMessage() for r in caplog.records if "come after the pass" in r.getMessage()]
    assert len(train_queue.pruner.live_indices["valid"]) == 80


def test_epochs_that_are_passes_over_the_validation_queue_are_told(caplog):
    """iDARTS: several training batches for each of the validation queue."""
    criterion, model = nn.CrossEntropyLoss(), Network()
    train_queue, valid_queue = call(loss=criterion)
    for images, target in valid_queue:
        for _ in range(3):
            images_train, target_train = next(iter(train_queue))
            criterion(model(images_train), target_train).backward()
        criterion(model(images), target).backward()
    told = [r for r in caplog.records if "where that pass is the loop's epoch" in r.getMessage()]
    assert len(told) == 1


def test_a_call_in_every_epoch_is_told(caplog):
    """CDARTS builds its criterion in the function that trains one epoch."""
    given, model = queues(), Network()
    for epoch in range(2):
        criterion = nn.CrossEntropyLoss()
        both = bdp_ext.prune(*given, criterion, epochs=5)
        alternate(*both, criterion, model, 1)
        told = ["the same loaders before" in r.getMessage() for r in caplog.records]
        assert any(told) == bool(epoch)
