"""Rows F, L and W: what frozen layers do while the rest trains (TestFrozenLayers, FrozenLayerTest, ...)."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from nets import furthest, moved, weights
from yardstick import (
    assert_gradients_are_right,
    assert_same_weights,
    assert_trains_alike,
    configuration,
    examples,
    in_a_row,
    network,
    own_weights,
    same,
    take_weights,
    tanh,
    train,
    trained_vertices,
)

import tlkit as tl

LAYERS = {"a": tanh(6), "b": tanh(5), "c": tanh(7), "out": tl.Output(3)}


def layers(still=()):
    """The four layers, some with a learning rate of zero."""
    return {name: replace(layer, updater=tl.Sgd(0.0)) if name in still else layer for name, layer in LAYERS.items()}


def chain(*, still=(), **options):
    return in_a_row((4,), layers(still), **{"updater": tl.Sgd(0.1)} | options)


def graph(*, still=(), **options):
    """The same four layers with a bridge over the second."""
    made = layers(still)
    reads = {"a": ["in"], "b": ["a"], "c": ["both"], "out": ["c"]}
    vertices = {name: (made[name], *reads[name]) for name in made} | {"both": (tl.Merge(), "a", "b")}
    return network(
        {name: vertices[name] for name in ("a", "b", "both", "c", "out")},
        {"in": (4,)},
        ["out"],
        **{"updater": tl.Sgd(0.1)} | options,
    )


SHAPES = pytest.mark.parametrize("make", [chain, graph], ids=["chain", "graph"])


@pytest.mark.slow  # ten trainings
@pytest.mark.parametrize("l2", [0, 0.4])
@pytest.mark.parametrize("l1", [0, 0.3])
@SHAPES
def test_f1_penalties_never_move_frozen_weights_while_the_last_layer_learns(make, l1, l2):
    old = make()
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.1), l1=l1, l2=l2)
    net = tl.TransferLearning(old).fine_tune_configuration(tuning).set_feature_extractor("c").build()
    free = tl.TransferLearning(old).fine_tune_configuration(tuning).build()
    losses = [train(one, examples(4), fits=20).losses for one in (net, free)]
    assert same(own_weights(net, net.frozen), own_weights(old, net.frozen)), "bit by bit"
    assert moved(net, weights(old)) == {"out"}
    assert moved(free, weights(old)) == {"a", "b", "c", "out"}
    penalized = l1 or l2
    assert (losses[0][0] < losses[1][0]) == bool(penalized), "a frozen weight adds no penalty to the loss"


# -- a frozen layer that stops gradients ----------------------------------------------------------------------------


def test_l1_a_frozen_chain_trains_like_its_tail_alone_on_frozen_features():
    net, (x, y) = chain().freeze("b"), examples(4)
    tail = take_weights(in_a_row((5,), {name: LAYERS[name] for name in ("c", "out")}, updater=tl.Sgd(0.1)), net)
    train(tail, (features_of(net, x)["b"], y), fits=20)
    train(net, (x, y), fits=20)
    assert_same_weights(net, tail)
    assert moved(net, weights(chain())) == {"c", "out"}


def test_l1_a_frozen_graph_trains_like_its_tail_alone_on_frozen_features():
    net, (x, y) = graph().freeze("b"), examples(4)
    layers = {"both": (tl.Merge(), "a", "b"), "c": (tanh(7), "both"), "out": (tl.Output(3), "c")}
    tail = take_weights(network(layers, {"a": (6,), "b": (5,)}, ["out"], updater=tl.Sgd(0.1)), net)
    train(tail, (features_of(net, x), y), fits=20)
    train(net, (x, y), fits=20)
    assert_same_weights(net, tail)
    assert moved(net, weights(graph())) == {"c", "out"}


def features_of(net, x):
    """What the layers "a" and "b" say of x, asked of the modules themselves."""
    with torch.no_grad():
        first = net.vertices["a"].module(x)
        return {"a": first, "b": net.vertices["b"].module(first)}


@SHAPES
def test_l1_the_gradient_behind_a_frozen_layer_is_the_numerical_one_and_frozen_weights_have_none(make):
    assert_gradients_are_right(make().double().freeze("b"), *examples(4, dtype=torch.float64))


@SHAPES
def test_l2_a_clone_of_a_frozen_network_has_its_configuration_and_weights_and_trains_the_same(make):
    net = make().freeze("b").freeze("c", backprop=True)
    for clone in (copy.deepcopy(net), tl.TransferLearning(net).build()):
        assert configuration(clone) == configuration(net)
        assert furthest(weights(clone), weights(net)) == 0
        x, y = examples(4)
        assert torch.equal(clone(x), net(x))
        other = copy.deepcopy(net)
        assert_trains_alike(clone, other, (x, y), fits=5)
        assert moved(clone, weights(net)) == {"out"}
        assert furthest(weights(net), weights(make())) == 0, "a clone trains alone"


@pytest.mark.filterwarnings("ignore:The weights of 'b' are drawn anew and frozen at once")
@SHAPES
def test_l3_a_network_frozen_from_the_start_draws_the_same_weights_and_comes_back_frozen_from_a_file(make, tmp_path):
    """DL4J wraps the layer in the configuration; here the mark is the network's, set in the same build."""
    source = make()

    def new_layers():
        edits = tl.TransferLearning(source).fine_tune_configuration(tl.FineTuneConfiguration(seed=7))
        edits.remove_vertex_keep_connections("b").add_layer("b", tanh(5), "a")
        return edits.remove_vertex_keep_connections("out").add_layer("out", tl.Output(3), "c")

    plain, net = new_layers().build(), new_layers().set_feature_extractor("b").build()
    assert furthest(weights(plain), weights(net)) == 0
    assert net.frozen == {"a", "b"}
    x, _ = examples(4)
    assert torch.equal(plain(x), net(x))

    loaded = tl.load(tl.save(net, tmp_path / "net.tlk"), source)
    assert configuration(loaded) == configuration(net)
    assert furthest(weights(loaded), weights(net)) == 0
    assert torch.equal(loaded(x), net(x))


# -- a frozen layer that gradients pass through ---------------------------------------------------------------------

FREEZES = {"a hidden layer": ["b"], "the output too": ["b", "c", "out"]}


@pytest.mark.parametrize("names", FREEZES.values(), ids=FREEZES)
@SHAPES
def test_w1_layers_below_train_while_those_that_pass_gradients_on_stay_as_with_a_rate_of_zero(make, names):
    """Unlike DL4J's, these layers have no updater state and no penalty that could move them."""
    plain, net = make(), make().freeze(*names, backprop=True)
    x, y = examples(4)
    assert furthest(weights(plain), weights(net)) == 0
    assert torch.equal(plain(x), net(x))
    assert net.frozen == net.passing == set(names)

    still = make(still=names)
    train(net, (x, y), fits=10)
    train(still, (x, y), fits=10)
    assert furthest(weights(net), weights(still)) == 0
    assert moved(net, weights(plain)) == trained_vertices(net) - set(names)


@SHAPES
def test_w1_penalties_and_saving_respect_a_layer_that_passes_gradients_on(make, tmp_path):
    source = make(l1=0.1, l2=0.3)
    net = tl.TransferLearning(source).build().freeze("b", backprop=True)
    loaded = tl.load(tl.save(net, tmp_path / "net.tlk"), source)
    assert loaded.passing == {"b"}
    assert configuration(loaded) == configuration(net)
    for one in (net, loaded):
        train(one, examples(4), fits=10)
        assert same(own_weights(one, "b"), own_weights(source, "b"))
    assert furthest(weights(net), weights(loaded)) == 0


@pytest.mark.parametrize("names", FREEZES.values(), ids=FREEZES)
@SHAPES
def test_w2_the_gradient_through_frozen_layers_is_the_numerical_one_and_their_own_weights_have_none(make, names):
    assert_gradients_are_right(make().double().freeze(*names, backprop=True), *examples(4, dtype=torch.float64))
