"""Rows G: DL4J's builder for graphs of named vertices (TransferLearningCompGraphTest)."""

from __future__ import annotations

import pytest
import torch
from nets import furthest, moved, weights
from torch import nn
from yardstick import (
    Attention,
    Layers,
    assert_same_weights,
    assert_trains_alike,
    configuration,
    conv,
    examples,
    network,
    own_weights,
    relu,
    same,
    shapes,
    take_weights,
    tanh,
    train,
)

import tlkit as tl


def graph(layers: Layers, *, shape=(4,), outputs=("out",), **options) -> tl.Network:
    """Make a graph with the one input "in"."""
    return network(layers, {"in": shape}, outputs, **{"updater": tl.Sgd(0.1)} | options)


def fork(*, n_out=3, **options):
    """Two layers over the same one, joined again before the output."""
    return graph(
        {
            "layer0": (tanh(5), "in"),
            "left": (tanh(4), "layer0"),
            "right": (tanh(4), "layer0"),
            "sum": (tl.ElementWise("add"), "left", "right"),
            "out": (tl.Output(n_out), "sum"),
        },
        **options,
    )


def test_g1_a_configuration_reaches_every_vertex_and_trains_like_a_graph_built_with_it():
    old = fork()
    tuning = tl.FineTuneConfiguration(updater=tl.RmsProp(0.5), l2=0.4)
    net = tl.TransferLearning(old).fine_tune_configuration(tuning).build()
    assert furthest(weights(net), weights(old)) == 0
    expected = fork(updater=tl.RmsProp(0.5), l2=0.4)
    assert configuration(net) == configuration(expected)
    assert configuration(net) != configuration(old)
    assert_trains_alike(net, expected, examples(4))


def test_g2_new_widths_redraw_a_vertex_by_a_distribution_and_all_that_reads_it_by_xavier():
    old = graph(
        {
            "layer0": (tanh(5), "in"),
            "left": (tanh(40), "layer0"),
            "right": (tanh(40), "layer0"),
            "sum": (tl.ElementWise("add"), "left", "right"),
            "layer3": (tanh(30), "sum"),
            "out": (tl.Output(3), "layer3"),
        },
        shape=(40,),
    )
    net = (
        tl.TransferLearning(old)
        .n_out_replace("layer3", 200, "xavier", tl.Normal(2, 0.1))
        .n_out_replace("layer0", 300, tl.Normal(1, 0.1), "xavier")
        .build()
    )
    weight = {name: vertex.module.weight for name, vertex in net.vertices.items() if name != "sum"}
    assert weight["layer0"].mean().item() == pytest.approx(1, abs=0.02)
    assert weight["layer0"].std().item() == pytest.approx(0.1, rel=0.1)
    for name in ("left", "right"):
        assert weight[name].std().item() == pytest.approx((2 / (300 + 40)) ** 0.5, rel=0.1)
    assert weight["layer3"].std().item() == pytest.approx((2 / (40 + 200)) ** 0.5, rel=0.1)
    assert weight["out"].mean().item() == pytest.approx(2, abs=0.05)

    expected = graph(
        {
            "layer0": (tanh(300), "in"),
            "left": (tanh(40), "layer0"),
            "right": (tanh(40), "layer0"),
            "sum": (tl.ElementWise("add"), "left", "right"),
            "layer3": (tanh(200), "sum"),
            "out": (tl.Output(3), "layer3"),
        },
        shape=(40,),
    )
    assert configuration(net) == configuration(expected)
    assert shapes(net) == shapes(expected)
    assert_trains_alike(net, take_weights(expected, net), examples(40))


def test_g3_a_vertex_removed_and_added_again_under_its_name_is_new_and_trains_with_its_own_updater():
    layers = {
        "layer0": (tanh(5), "in"),
        "layer1": (tanh(6), "layer0"),
        "layer2": (tanh(7), "layer1"),
        "out": (tl.Output(3), "layer2"),
    }
    old = graph(layers)
    net = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.2), seed=0))
        .n_out_replace("layer0", 7, "xavier", "xavier")
        .n_out_replace("layer2", 5, "xavier")
        .remove_vertex_keep_connections("out")
        .add_layer("out", tl.Output(3, updater=tl.Sgd(0.5)), "layer2")
        .build()
    )
    expected = graph(
        {
            "layer0": (tanh(7), "in"),
            "layer1": (tanh(6), "layer0"),
            "layer2": (tanh(5), "layer1"),
            "out": (tl.Output(3, updater=tl.Sgd(0.5)), "layer2"),
        },
        updater=tl.Sgd(0.2),
    )
    assert configuration(net) == configuration(expected)
    assert shapes(net) == shapes(expected)
    assert_trains_alike(net, take_weights(expected, net), examples(4))


def test_g4_a_frozen_convolution_with_a_new_tail_equals_a_graph_frozen_there_and_trains_like_its_tail_alone():
    front = {"layer0": (conv(4, 5), "in"), "layer1": (tl.Pool2d(), "layer0")}
    middle = {"layer2": (conv(6, 5), "layer1"), "layer3": (tl.Pool2d(), "layer2"), "flat": (tl.Flatten(), "layer3")}
    end = {"layer4": (relu(20), "flat"), "layer5": (relu(12), "layer4"), "layer6": (tl.Output(10), "layer5")}
    old = graph(front | middle | end, shape=(1, 28, 28), outputs=["layer6"])
    new = {
        "layer5": (relu(16), "layer4"),
        "layer6": (relu(12), "layer5"),
        "layer7": (relu(8), "layer6"),
        "layer8": (tl.Output(10), "layer7"),
    }
    builder = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.2), seed=0))
        .set_feature_extractor("layer1")
        .n_out_replace("layer4", 24, "xavier")
        .remove_vertex_and_connections("layer5")
        .remove_vertex_and_connections("layer6")
        .set_inputs({"in": (1, 20, 20)})
        .set_outputs("layer8")
    )
    for name, (layer, *reads) in new.items():
        builder.add_layer(name, layer, *reads)
    net = builder.build()

    behind = middle | {"layer4": (relu(24), "flat")} | new
    expected = graph(front | behind, shape=(1, 20, 20), outputs=["layer8"], updater=tl.Sgd(0.2)).freeze("layer1")
    assert configuration(net) == configuration(expected)
    assert net.frozen == {"layer0", "layer1"}
    assert same(own_weights(net, ["layer0", "layer2"]), own_weights(old, ["layer0", "layer2"]))

    x, y = examples(1, 20, 20, classes=10)
    with torch.no_grad():
        features = old.vertices["layer1"].module(old.vertices["layer0"].module(x))
    tail = network(behind, {"layer1": (4, 8, 8)}, ["layer8"], updater=tl.Sgd(0.2))
    take_weights(tail, net)
    assert_trains_alike(net, take_weights(expected, net), (x, y), fits=5)
    train(tail, (features, y), fits=5)
    assert_same_weights(net, tail)


def test_g5_zero_and_none_remove_dropout_weight_noise_constraints_and_l2_in_a_graph():
    plain = fork()
    there = {"dropout": 0.5, "weight_noise": tl.DropConnect(0.5), "constraints": [tl.MaxNorm(0.1)], "l2": 0.5}
    gone = {"dropout": 0, "weight_noise": None, "constraints": None, "l2": 0}
    old = tl.TransferLearning(plain).fine_tune_configuration(tl.FineTuneConfiguration(**there)).build()
    net = tl.TransferLearning(old).fine_tune_configuration(tl.FineTuneConfiguration(**gone)).build()
    assert configuration(net) == configuration(plain)
    assert configuration(old) != configuration(plain)
    data = examples(4)
    assert_trains_alike(net, plain, data)
    for option in there:
        others = {name: value for name, value in gone.items() if name != option}
        partly = tl.TransferLearning(old).fine_tune_configuration(tl.FineTuneConfiguration(**others)).build()
        train(partly, data, fits=3)
        assert furthest(weights(partly), weights(plain)) > 1e-3, f"{option} still acts where it was not removed"


def test_g6_new_widths_of_consecutive_convolutions_compose_under_a_new_output_without_a_configuration():
    """DL4J gives the new output an explicit preprocessor; here a Flatten stands before it."""
    layers = {
        "layer0": (conv(20), "in"),
        "layer1": (conv(10), "layer0"),
        "layer2": (conv(30), "layer1"),
        "flat": (tl.Flatten(), "layer2"),
        "out": (tl.Output(5), "flat"),
    }
    old = graph(layers, shape=(1, 12, 12))
    net = (
        tl.TransferLearning(old)
        .n_out_replace("layer0", 7, "relu")
        .n_out_replace("layer1", 25, "relu")
        .remove_vertex_and_connections("out")
        .remove_vertex_and_connections("flat")
        .add_vertex("flat again", tl.Flatten(), "layer2")
        .add_layer("out", tl.Output(4), "flat again")
        .set_outputs("out")
        .build()
    )
    second, third = net.vertices["layer1"].module, net.vertices["layer2"].module
    assert (second.in_channels, second.out_channels, third.in_channels, third.out_channels) == (7, 25, 25, 30)
    assert net.vertices["out"].module.in_features == 30 * 6 * 6
    assert net(examples(1, 12, 12)[0]).shape == (10, 4)
    before = weights(net)
    train(net, examples(1, 12, 12, classes=4))
    assert moved(net, before) == {"layer0", "layer1", "layer2", "out"}


def test_g7_a_new_width_reaches_the_next_convolution_of_a_graph_across_pooling():
    """DL4J needs n_in_replace behind the pooling vertex; here that call adds only how to draw weights."""
    layers = {
        "layer0": (conv(20), "in"),
        "pool": (tl.Pool2d(), "layer0"),
        "layer2": (conv(30), "pool"),
        "flat": (tl.Flatten(), "layer2"),
        "out": (tl.Output(5), "flat"),
    }
    old = graph(layers, shape=(1, 12, 12))
    both = tl.TransferLearning(old).n_out_replace("layer0", 5).n_in_replace("layer2", 5, tl.Normal(3, 0.1)).build()
    alone = tl.TransferLearning(old).n_out_replace("layer0", 5).build()
    for net in (both, alone):
        assert net.vertices["layer0"].module.out_channels == net.vertices["layer2"].module.in_channels == 5
        assert same(own_weights(net, ["out"]), own_weights(old, ["out"]))
        assert net(examples(1, 12, 12)[0]).shape == (10, 5)
    assert both.vertices["layer2"].module.weight.mean().item() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("kind", ["layer", "vertex"])
def test_g8_a_graph_with_attention_gets_a_new_output_and_keeps_the_attention_weights_by_name(kind):
    """SameDiff's counterpart, a layer of one's own, is an ordinary torch module here; DL4J forgets a vertex's weights.

    Upstream's attention vertex sets the weights by hand after the build; here they are kept like any other.
    """
    attention = {"layer": (Attention(6), "first"), "vertex": (Queried(6), "first", "in")}[kind]
    old = graph({"first": (relu(6), "in"), "attention": attention, "out": (tl.Output(4), "attention")}, shape=(5, 6))
    net = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.2), seed=0))
        .remove_vertex_keep_connections("out")
        .add_layer("out", tl.Output(3), "attention")
        .build()
    )
    assert same(own_weights(net, ["first", "attention"]), own_weights(old, ["first", "attention"]))
    layers = {"first": (relu(6), "in"), "attention": attention, "out": (tl.Output(3), "attention")}
    expected = take_weights(graph(layers, shape=(5, 6)), net)
    x, y = examples(5, 6)
    assert torch.equal(net(x), expected(x))
    before = weights(net)
    train(net, (x, y))
    assert moved(net, before) == {"first", "attention", "out"}


class Queried(nn.Module):
    """Attention with two inputs: what to look for, and where."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)

    def forward(self, query, values):
        return self.attention(query, values, values, need_weights=False)[0].mean(dim=1)
