"""Rows C: freezing one branch of a graph that merges (TransferLearningComplex)."""

from __future__ import annotations

import pytest
import torch
from nets import moved, weights
from yardstick import (
    assert_gradients_are_right,
    assert_same_weights,
    assert_trains_alike,
    configuration,
    examples,
    network,
    own_weights,
    same,
    take_weights,
    tanh,
    train,
)

import tlkit as tl

INPUTS = {"in1": (4,), "in2": (3,)}


def merged(*, output=None, **options):
    """``in1 -> A -> B`` and ``in2 -> C``, both into D, and an output."""
    layers = {
        "A": (tanh(5), "in1"),
        "B": (tanh(6), "A"),
        "C": (tanh(7), "in2"),
        "D_merge": (tl.Merge(), "B", "C"),
        "D": (tanh(5), "D_merge"),
        "out": (output or tl.Output(3), "D"),
    }
    return network(layers, INPUTS, ["out"], **{"updater": tl.Sgd(0.1)} | options)


def data(dtype=torch.float32):
    (one, y), (two, _) = examples(4, dtype=dtype), examples(3, dtype=dtype)
    return {"in1": one, "in2": two}, y


def test_c1_freezing_one_branch_freezes_that_branch_only():
    old = merged()
    tuning = tl.FineTuneConfiguration(updater=tl.Adam(1e-2), seed=1)
    net = tl.TransferLearning(old).fine_tune_configuration(tuning).set_feature_extractor("C").build()
    assert net.frozen == {"C"}
    assert old.frozen == frozenset()
    for name in ("A", "B", "C", "D", "out"):
        assert net.vertices[name].settings.updater == tl.Adam(1e-2)
        kind = torch.nn.Softmax if name == "out" else torch.nn.Tanh
        assert isinstance(net.vertices[name].module.activation, kind)
    before = weights(net)
    train(net, data())
    assert moved(net, before) == {"A", "B", "D", "out"}


def test_c1_a_configuration_does_not_change_what_the_frozen_branch_answers():
    """DL4J gives layers frozen in the same build the configuration's activation; tlkit leaves them as they are."""
    old, (x, _) = merged(), data()
    tuning = tl.FineTuneConfiguration(activation="relu", dropout=0.5, l2=0.5)
    net = tl.TransferLearning(old).fine_tune_configuration(tuning).set_feature_extractor("C").build()
    kinds = {name: type(net.vertices[name].module.activation) for name in "ABCD"}
    assert kinds == dict.fromkeys("ABD", torch.nn.ReLU) | {"C": torch.nn.Tanh}
    with torch.no_grad():
        assert torch.equal(net.train().vertices["C"].module(x["in2"]), old.vertices["C"].module(x["in2"]))


def test_c1_a_layer_added_over_two_branches_reads_a_merge_of_them_as_one_made_by_hand_does():
    whole = merged()
    builder = tl.TransferLearning(whole).fine_tune_configuration(tl.FineTuneConfiguration(seed=1, updater=tl.Sgd(0.1)))
    for name in ("D_merge", "D", "out"):
        builder.remove_vertex_and_connections(name)
    net = builder.add_layer("D", tanh(5), "B", "C").add_layer("out", tl.Output(3), "D").set_outputs("out").build()
    assert configuration(net) == configuration(whole)
    assert_trains_alike(net, take_weights(whole, net), data())


def test_c1_an_output_that_cannot_learn_is_refused_unless_the_check_is_switched_off():
    def builder():
        edits = tl.TransferLearning(merged()).set_feature_extractor("C").remove_vertex_keep_connections("out")
        return edits.add_layer("out", tl.Output(1), "D")

    with pytest.raises(ValueError, match=r"output 'out' .* softmax over one class always answers 1"):
        builder().build()
    net = builder().build(validate_output_layer=False)
    assert net.frozen == {"C"}
    assert (net(*data()[0].values()) == 1).all(), "a softmax over one unit"


def frozen_by_each_way(make, *names):
    """The same network frozen by the builder in a copy, and in place."""
    return tl.TransferLearning(make()).set_feature_extractor(*names).build(), make().freeze(*names)


def test_c2_beside_a_frozen_branch_the_rest_trains_as_on_that_branchs_stored_answers():
    (built, in_place), (x, y) = frozen_by_each_way(merged, "C"), data()
    with torch.no_grad():
        answers = merged().vertices["C"].module(x["in2"])
    rest = network(
        {
            "A": (tanh(5), "in1"),
            "B": (tanh(6), "A"),
            "D_merge": (tl.Merge(), "B", "C"),
            "D": (tanh(5), "D_merge"),
            "out": (tl.Output(3), "D"),
        },
        {"in1": (4,), "C": (7,)},
        ["out"],
        updater=tl.Sgd(0.1),
    )
    take_weights(rest, built)
    assert configuration(built) == configuration(in_place)
    assert_trains_alike(built, in_place, (x, y), fits=5)
    train(rest, ({"in1": x["in1"], "C": answers}, y), fits=5)
    assert_same_weights(built, rest)
    with torch.no_grad():
        assert torch.equal(built.vertices["C"].module(x["in2"]), answers)
    assert moved(built, weights(merged())) == {"A", "B", "D", "out"}


def test_c2_the_gradient_beside_a_frozen_branch_is_the_numerical_one():
    net = merged().double().freeze("C")
    assert_gradients_are_right(net, *data(torch.float64))


def crossing(*, frozen_part=True):
    """A vertex c1 that feeds an output of its own and, beside another branch, a merge with a second output."""
    front = {"c0": (tanh(6), "in1"), "c1": (tanh(5), "c0")} if frozen_part else {}
    layers = front | {
        "outCentre": (tl.Output(3), "c1"),
        "r0": (tanh(4), "in2"),
        "both": (tl.Merge(), "c1", "r0"),
        "r1": (tanh(6), "both"),
        "outRight": (tl.Output(2), "r1"),
    }
    inputs = INPUTS if frozen_part else {"c1": (5,), "in2": (3,)}
    return network(layers, inputs, ["outCentre", "outRight"], updater=tl.Sgd(0.1))


def test_c3_a_frozen_vertex_under_an_output_and_a_merge_trains_both_tails_as_on_its_stored_answers():
    (built, in_place), (x, y) = frozen_by_each_way(crossing, "c1"), data()
    labels = {"outCentre": y, "outRight": y % 2}
    assert built.frozen == in_place.frozen == {"c0", "c1"}
    with torch.no_grad():
        before = crossing().vertices
        answers = before["c1"].module(before["c0"].module(x["in1"]))
    tails = take_weights(crossing(frozen_part=False), built)
    assert_trains_alike(built, in_place, (x, labels), fits=5)
    train(tails, ({"c1": answers, "in2": x["in2"]}, labels), fits=5)
    assert_same_weights(built, tails)
    assert same(own_weights(built, built.frozen), own_weights(crossing(), built.frozen))
    assert moved(built, weights(crossing())) == {"outCentre", "r0", "r1", "outRight"}


def test_c3_the_gradient_of_two_outputs_over_a_frozen_vertex_is_the_numerical_one():
    x, y = data(torch.float64)
    assert_gradients_are_right(crossing().double().freeze("c1"), x, {"outCentre": y, "outRight": y % 2})


def test_c4_a_second_output_on_an_inner_vertex_trains_beside_the_first_and_shows_in_the_summary():
    old = merged()
    net = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.1), seed=1))
        .set_feature_extractor("C")
        .add_layer("second", tl.Output(2), "B")
        .set_outputs("out", "second")
        .build()
    )
    x, y = data()
    assert net.outputs == ("out", "second")
    assert [tuple(answer.shape) for answer in net(x)] == [(10, 3), (10, 2)]
    rows = {row.vertex: row for row in net.summary().rows}
    assert (rows["second"].reads, rows["second"].in_out, rows["second"].training) == ("B", "6, 2", "trainable")
    assert rows["C"].training == "frozen"

    before = weights(net)
    losses = train(net, (x, {"out": y, "second": y % 2}), fits=20).losses
    assert losses[-1] < losses[0]
    assert moved(net, before) == {"A", "B", "D", "out", "second"}
