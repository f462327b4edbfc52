"""Networks divided at their cut points: nothing is lost, and nothing of the original changes."""

from __future__ import annotations

import pytest
import torch
from nets import furthest, narrow_vgg16, weights
from torch import nn

import tlkit as tl
from tlkit.training.segments import divide, find_cuts


@pytest.fixture(scope="module")
def vgg16():
    return narrow_vgg16(batch_norm=True)


def test_segments_in_a_row_are_the_network(vgg16):
    parts = divide(vgg16, find_cuts(vgg16))
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = vgg16(x)
        for part in parts:
            x = part(x)
    assert torch.equal(x, expected)
    assert [part.outputs for part in parts] == [(name,) for name in find_cuts(vgg16)] + [vgg16.outputs]
    assert [name for part in parts for name in part.vertices] == list(vgg16.vertices)


def test_some_cut_points_give_fewer_segments(vgg16):
    front, middle, back = divide(vgg16, ["block2_pool", "flatten"])
    assert front.outputs == middle.inputs == ("block2_pool",)
    assert middle.outputs == back.inputs == ("flatten",)
    assert list(back.vertices) == ["fc1", "fc2", "predictions"]


def test_the_network_stays_as_it_is(vgg16):
    net = tl.TransferLearning(vgg16).set_feature_extractor("fc1").build()
    before = weights(net)
    for part in divide(net, find_cuts(net)):
        part.unfreeze().train()
    assert furthest(before, weights(net)) == 0
    assert net.boundary() == ("fc1",)
    assert not net.training


def test_there_is_no_cut_between_vertices_that_share_weights():
    shared = nn.Linear(4, 4)
    net = tl.Network.from_module(
        nn.Sequential(nn.Linear(4, 4), shared, nn.ReLU(), shared, nn.ReLU(), nn.Linear(4, 2)), [torch.zeros(1, 4)]
    )
    assert net.cut_points == ("0", "1", "2", "1_2", "4")
    assert find_cuts(net) == ["0", "1_2", "4"]
