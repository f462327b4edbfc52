"""Seconds: added up as they should be, and measured without a trace. What they are, no test can know."""

from __future__ import annotations

import pytest
import torch
from nets import classifier, narrow_vgg16
from torch import nn

import tlkit as tl
from tlkit.training.timings import Timings, time_vertices


class Residual(nn.Module):
    """`first` feeds `second` and, around it, the addition; `last` answers."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        x = self.first(x)
        return self.last(x + self.second(x))


def test_an_epoch_is_what_its_parts_take():
    net = tl.Network.from_module(Residual(), [torch.rand(1, 4)], granularity="layer")
    ahead, back, update = (dict.fromkeys(net.vertices, seconds) for seconds in (1.0, 2.0, 0.1))
    timings = Timings(ahead, back, reading=0.25, step=10.0, update=update)
    epoch = timings.epoch(net, {"first"}, 33)  # trains second, add and last; two steps of 32
    assert epoch.featurizing == pytest.approx(33 * (0.25 + 1))
    # `second` reads the boundary alone, `add` reads `second` as well
    assert epoch.featurized == pytest.approx(33 * (3 * 1 + 1 + 2 + 2) + 2 * (10 + 3 * 0.1))
    assert epoch.whole == pytest.approx(epoch.featurizing + epoch.featurized)
    assert epoch.speed_up == pytest.approx(epoch.whole / epoch.featurized)
    whole = timings.epoch(net, (), 33)
    assert whole.featurizing == 33 * 0.25
    assert whole.featurized == pytest.approx(33 * (4 + 1 + 3 * 2) + 2 * (10 + 4 * 0.1))


@pytest.mark.slow
def test_measuring_leaves_the_network_and_the_random_numbers_of_others_alone():
    net = narrow_vgg16(batch_norm=True)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.freeze(net.cut_points[0])
    random = torch.get_rng_state()
    timings = time_vertices(net)
    assert torch.get_rng_state().equal(random)
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())
    assert all(value.grad is None for value in net.parameters())
    assert not net.training
    assert net.frozen == net.ancestors(net.cut_points[0])
    assert set(timings.forward) == set(timings.backward) == set(net.vertices)
    assert min(timings.forward.values()) > 0
    assert timings.reading == 0
    assert timings.step > 0
    assert net.optimizers is None


@pytest.mark.slow
def test_a_network_without_values_is_measured_too():
    net = narrow_vgg16(batch_norm=True).to("meta")
    told = []
    timings = time_vertices(net, told=told.append)
    assert sum(timings.forward.values()) > 0
    assert told[0] == f"{next(iter(net.vertices))} (1 of {len(net.vertices)})"
    assert all(value.is_meta for value in net.parameters())


def test_each_vertex_is_updated_by_the_updater_of_the_network(monkeypatch):
    taken = []
    monkeypatch.setattr("tlkit.training.timings._time_step", lambda width, updater: taken.append(updater) or width)
    update = time_vertices(classifier(4, 3, 2, updater=tl.Sgd(0.5))).update
    assert taken == [tl.Sgd(0.5)] * 2
    assert update["0"] / update["1"] == pytest.approx(15 / 8)  # as many as it has parameters


@pytest.mark.slow
def test_what_has_no_way_back_takes_no_time_on_it():
    class Rounded(nn.Module):
        def forward(self, x):
            return (x > 0).long()

    net = tl.Network.from_module(nn.Sequential(Rounded(), nn.Embedding(2, 3)), [torch.rand(1, 4)])
    timings = time_vertices(net)
    assert 0.0 in timings.backward.values()
    assert min(timings.forward.values()) > 0


@pytest.mark.slow
def test_reading_images_is_measured_where_there_are_any():
    class Images:
        def __len__(self):
            return 3

        def batches(self, size):
            yield torch.zeros(min(size, 3), 3, 8, 8), torch.zeros(3)

    assert time_vertices(narrow_vgg16(batch_norm=True), Images()).reading > 0


def test_measuring_can_be_given_up():
    assert time_vertices(narrow_vgg16(batch_norm=True), given_up=lambda: True) is None
