"""A last batch of one row: batch normalization that trains takes it together with the batch before."""

from __future__ import annotations

import pytest
import torch
from by_hand import fit
from nets import apply, blobs, classifier, furthest, imported, moved, seeded, weights
from torch import nn

import tlkit as tl
from tlkit.training.lone_rows import count_batches


def normalized(**options):
    """A dense layer with batch normalization behind it, and an output."""
    with seeded(4):
        layers = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU()
    net = imported(*layers, shape=(4,))
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.1), seed=1, **options)
    (*_, last) = net.vertices
    return apply(
        net,
        ("fine_tune_configuration", tuning),
        ("add_layer", "answer", tl.Output(3), last),
        ("set_outputs", "answer"),
    )


class Sizes(tl.Listener):
    def __init__(self):
        self.seen = [0]

    def iteration_done(self, training):
        self.seen.append(training.history.examples)


def sizes(net, data, **options):
    listener = Sizes()
    history = fit(net, data, listeners=[listener], **options)
    return history, [after - before for before, after in zip(listener.seen, listener.seen[1:], strict=False)]


def test_the_last_row_joins_the_batch_before():
    x, y = blobs(25)
    history, seen = sizes(normalized(), (x, y), epochs=2, batch_size=8)
    assert seen == [8, 8, 9] * 2
    assert (history.examples, history.stopped) == (50, "")


def test_the_joined_batch_is_what_a_batch_of_that_size_would_be():
    x, y = blobs(9)
    one, other = normalized(), normalized()
    fit(one, (x, y), batch_size=8, shuffle=False)
    fit(other, (x, y), batch_size=9, shuffle=False)
    assert furthest(weights(one), weights(other)) == 0


def test_tensors_by_name_are_joined_too():
    x, y = blobs(9)
    net = normalized()
    (name,) = net.inputs
    _, seen = sizes(net, ({name: x}, {"answer": y}), batch_size=4)
    assert seen == [4, 5]


@pytest.mark.parametrize("make", [lambda: classifier(4, 8, 3), lambda: normalized(fixed_statistics=True)])
def test_without_batch_normalization_that_trains_the_last_row_stays_alone(make):
    assert sizes(make(), blobs(25), batch_size=8)[1] == [8, 8, 8, 1]


def test_pictures_have_more_than_one_value_for_a_channel_each():
    net = imported(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    assert count_batches(net, 25, 8) == 4
    assert not any(part._forward_pre_hooks for part in net.modules())
    assert not net.training


@pytest.mark.parametrize(("rows", "batch_size"), [(24, 1), (1, 8)])
def test_batches_of_one_row_are_refused_before_anything_moves(rows, batch_size):
    net = normalized()
    before = weights(net)
    with pytest.raises(ValueError, match=r"normalizes by the mean and spread of a batch.*Use batch_size=2 or more"):
        fit(net, blobs(rows), batch_size=batch_size)
    assert moved(net, before) == set()
    assert torch.isfinite(net(blobs(rows)[0])).all()
