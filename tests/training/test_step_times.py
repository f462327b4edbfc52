"""Networks divided at their cut points: nothing is lost, and nothing of the original changes."""

from __future__ import annotations

import pytest
import torch
from nets import classifier, furthest, narrow_vgg16, weights
from torch import nn

import tlkit as tl
from tlkit.training.step_times import cuts, segments, step_seconds


@pytest.fixture(scope="module")
def vgg16():
    return narrow_vgg16(batch_norm=True)


def test_segments_in_a_row_are_the_network(vgg16):
    parts = segments(vgg16, cuts(vgg16))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = vgg16(x)
        for part in parts:
            x = part(x)
    assert torch.equal(x, expected)
    assert [part.outputs for part in parts] == [(name,) for name in cuts(vgg16)] + [vgg16.outputs]
    assert [name for part in parts for name in part.vertices] == list(vgg16.vertices)


def test_some_cut_points_give_fewer_segments(vgg16):
    front, middle, back = segments(vgg16, ["block2_pool", "flatten"])
    assert front.outputs == middle.inputs == ("block2_pool",)
    assert middle.outputs == back.inputs == ("flatten",)
    assert list(back.vertices) == ["fc1", "fc2", "predictions"]


def test_timing_trains_copies(vgg16):
    net = tl.TransferLearning(vgg16).set_feature_extractor("fc1").build()
    before = weights(net)
    seconds = step_seconds(segments(net, cuts(net)), torch.randn(2, 3, 32, 32))
    assert len(seconds) == len(cuts(net)) + 1
    assert min(seconds) > 0
    assert furthest(before, weights(net)) == 0
    assert net.boundary() == ("fc1",)
    assert not net.training


def test_a_step_on_large_images_takes_fewer_rows(vgg16, monkeypatch):
    taken = []
    monkeypatch.setattr("tlkit.training.step_times._seconds", lambda net, x: taken.append(len(x)) or 6.0)
    monkeypatch.setattr("tlkit.training.step_times.ROOM", 3 * 4 * 3 * 32 * 32)  # three pictures as numbers
    seconds = step_seconds(segments(vgg16, ["flatten"]), torch.randn(8, 3, 32, 32))
    assert taken == [3, 3, 3, 8, 8, 8]
    assert seconds == [2.0, 0.75]


def test_a_part_without_weights_that_reads_bytes_is_timed():
    body = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(12, 2))
    net = tl.Network.from_module(body, [torch.zeros(1, 3, 4, 4)])
    net.preprocessing = tl.Preprocessing(size=4, resize=4)
    pixels = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    assert len(step_seconds(segments(net, cuts(net)), pixels)) == 3


def test_there_is_no_cut_between_vertices_that_share_weights():
    shared = nn.Linear(4, 4)
    net = tl.Network.from_module(
        nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, 2)), [torch.zeros(1, 4)]
    )
    assert net.cut_points == ("0", "1", "2", "1_2", "4")
    assert cuts(net) == ["0", "1_2", "4"]


def test_updaters_of_the_network_train_the_copies():
    net = classifier(4, 3, 2)
    assert len(step_seconds(segments(net, cuts(net)), torch.randn(5, 4))) == 2
    assert net.optimizers is None
