"""Seconds: added up as they should be, and measured without a trace. What they are, no test can know."""

from __future__ import annotations

import pytest
import torch
from faces import chain, residual
from torch import nn

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets.cuts import Cuts
from tlkit.widgets.timings import Timings, measure


def test_an_epoch_is_what_its_parts_take():
    net = residual()
    cuts = Cuts(net)
    ahead, back = (dict.fromkeys(cuts.order, seconds) for seconds in (1.0, 2.0))
    timings = Timings(ahead, back, reading=0.25, step=10.0, update=0.001)
    epoch = timings.epoch(net, cuts.at(("first",)), 33)  # trains second, add and last; two steps of 32
    step = 2 * (10 + 0.001 * 30)
    assert epoch.featurizing == pytest.approx(33 * (0.25 + 1))
    # `second` reads the boundary alone, `add` reads `second` as well
    assert epoch.featurized == pytest.approx(33 * (3 * 1 + 1 + 2 + 2) + step)
    assert epoch.whole == pytest.approx(epoch.featurizing + epoch.featurized)
    assert epoch.speed_up == pytest.approx(epoch.whole / epoch.featurized)
    whole = timings.epoch(net, cuts.at(()), 33)
    assert whole.featurizing == 33 * 0.25
    assert whole.featurized == pytest.approx(33 * (4 + 1 + 3 * 2) + 2 * (10 + 0.001 * 50))


def test_measuring_leaves_the_network_and_the_random_numbers_of_others_alone():
    net = chain()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.freeze(net.cut_points[0])
    random = torch.get_rng_state()
    timings = measure(Cuts(net))
    assert torch.get_rng_state().equal(random)
    assert all(value.equal(before[key]) for key, value in net.state_dict().items())
    assert all(value.grad is None for value in net.parameters())
    assert not net.training
    assert net.frozen == net.ancestors(net.cut_points[0])
    assert set(timings.forward) == set(timings.backward) == set(net.vertices)
    assert min(timings.forward.values()) > 0
    assert timings.reading == 0
    assert timings.step > 0


def test_a_network_without_values_is_measured_too():
    net = chain().to("meta")
    told = []
    timings = measure(Cuts(net), told=told.append)
    assert sum(timings.forward.values()) > 0
    assert told[0] == f"{next(iter(net.vertices))} (1 of {len(net.vertices)})"
    assert all(value.is_meta for value in net.parameters())


def test_reading_images_is_measured_where_there_are_any():
    class Images:
        def __len__(self):
            return 3

        def batches(self, size):
            yield torch.zeros(min(size, 3), 3, 8, 8), torch.zeros(3)

    assert measure(Cuts(chain()), Images()).reading > 0


def test_measuring_can_be_given_up():
    assert measure(Cuts(chain()), given_up=lambda: True) is None


def test_an_output_that_feeds_another_vertex_can_be_measured():
    dense = {"first": tl.Vertex(nn.Linear(4, 5), ("x",)), "second": tl.Vertex(nn.Linear(5, 3), ("first",))}
    cuts = Cuts(tl.Network(dense, {"x": (4,)}, ["first", "second"]))
    assert measure(cuts).forward.keys() == {"first", "second"}
