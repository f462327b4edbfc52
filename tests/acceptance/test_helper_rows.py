"""Rows H: the transfer learning helper (TransferLearningHelperTest)."""

from __future__ import annotations

import pytest
import torch
from nets import furthest, moved, weights
from yardstick import (
    assert_same_weights,
    configuration,
    examples,
    in_a_row,
    network,
    numbered,
    own_weights,
    same,
    take_weights,
    tanh,
    train,
)

import tlkit as tl

FITS = 5


CENTRE = {
    "denseCentre0": (tanh(9), "inCentre"),
    "denseCentre1": (tanh(8), "denseCentre0"),
    "denseCentre2": (tanh(7), "denseCentre1"),
}
REST = {
    "denseCentre3": (tanh(7), "denseCentre2"),
    "outCentre": (tl.Output(4), "denseCentre3"),
    "subsetLeft": (tl.Subset(0, 4), "denseCentre1"),
    "denseLeft0": (tanh(5), "subsetLeft"),
    "outLeft": (tl.Output(6), "denseLeft0"),
    "denseRight": (tanh(7), "denseCentre2"),
    "denseRight0": (tanh(3), "inRight"),
    "mergeRight": (tl.Merge(), "denseRight", "denseRight0"),
    "denseRight1": (tanh(5), "mergeRight"),
    "outRight": (tl.Output(5), "denseRight1"),
}
OUTPUTS = ("outLeft", "outCentre", "outRight")


def three_tails():
    """Two inputs, three outputs; freezing denseCentre2 leaves two boundary tensors and a raw input."""
    return network(CENTRE | REST, {"inCentre": (10,), "inRight": (6,)}, OUTPUTS, updater=tl.Sgd(0.1))


def rows():
    (centre, y), (right, _) = examples(10), examples(6)
    labels = {"outLeft": y, "outCentre": torch.arange(10) % 4, "outRight": torch.arange(10) % 5}
    return {"inCentre": centre, "inRight": right}, labels


def test_h1_the_unfrozen_part_is_the_graph_behind_the_boundary_with_every_tensor_that_crosses_as_an_input():
    """DL4J orders these inputs by the alphabet, its subset graph by a hash; tlkit has ONE order, that of the graph."""
    net = three_tails()
    helper = tl.TransferLearningHelper(net, "denseCentre2")
    inputs = {"inRight": (6,), "denseCentre1": (8,), "denseCentre2": (7,)}
    expected = network(REST, inputs, OUTPUTS, updater=tl.Sgd(0.1))
    part = helper.unfrozen_network
    assert configuration(part) == configuration(expected)
    assert sorted(part.inputs) == ["denseCentre1", "denseCentre2", "inRight"], "upstream's three names"
    assert part.inputs == helper.frozen_network.outputs == net.boundary() == tuple(inputs)
    assert set(helper.frozen_network.vertices) == set(CENTRE)
    assert tuple(helper.featurize(rows()[0])) == part.inputs
    assert furthest(weights(take_weights(expected, net)), weights(part)) == 0


def test_h2_fitting_featurized_rows_of_several_inputs_and_outputs_is_fitting_the_whole_frozen_graph():
    """Upstream leaves the comparison of denseRight0 out; here every weight is compared."""
    parts, whole = three_tails(), three_tails().freeze("denseCentre2")
    before = weights(parts)
    x, labels = rows()
    helper = tl.TransferLearningHelper(parts, "denseCentre2")
    features = helper.featurize(x)
    for _ in range(FITS):
        whole_history = train(whole, (x, labels))
        history = helper.fit_featurized((features, labels), shuffle=False, progress=False)
        assert history.losses == pytest.approx(whole_history.losses, abs=1e-6)
    assert furthest(weights(parts), weights(whole)) <= 1e-6
    assert moved(parts, before) == set(REST) - {"subsetLeft", "mergeRight"}
    for name, answer in zip(OUTPUTS, helper.output_from_featurized(features), strict=True):
        assert torch.allclose(answer, dict(zip(OUTPUTS, whole(x), strict=True))[name], atol=1e-6)


def test_h2_training_the_unfrozen_part_alone_trains_the_graph_too():
    """In DL4J only fitFeaturized copies what the part learned; here the part and the whole share their weights."""
    net = three_tails()
    helper = tl.TransferLearningHelper(net, "denseCentre2")
    x, labels = rows()
    train(helper.unfrozen_network, (helper.featurize(x), labels))
    assert_same_weights(net, helper.unfrozen_network, within=0)
    assert moved(net, weights(three_tails())) == set(REST) - {"subsetLeft", "mergeRight"}


def chain_of_four():
    return in_a_row((4,), numbered(tanh(6), tanh(5), tanh(7), tl.Output(3)), updater=tl.Sgd(0.1))


def test_h3_features_are_the_boundarys_activations_and_training_on_them_equals_the_other_two_ways():
    old = chain_of_four()
    x, y = examples(4)
    built = tl.TransferLearning(old).set_feature_extractor(1).build()
    helper = tl.TransferLearningHelper(chain_of_four(), 1)
    features = helper.featurize((x, y), progress=False)
    with torch.no_grad():
        activations = old.vertices["1"].module(old.vertices["0"].module(x))
    assert features.names == ("1",)
    assert torch.equal(features.tensors["1"], activations)
    assert torch.equal(features.labels, y)

    tail = in_a_row((5,), {"2": tanh(7), "3": tl.Output(3)}, updater=tl.Sgd(0.1))
    take_weights(tail, old)
    for _ in range(FITS):
        train(built, (x, y))
        train(tail, (activations, y))
        helper.fit_featurized(features, shuffle=False, progress=False)
        assert_same_weights(built, tail)
        assert furthest(weights(helper.network), weights(built)) <= 1e-6
    assert moved(built, weights(old)) == {"2", "3"}
    assert same(own_weights(helper.network, "01"), own_weights(old, "01"))
    assert torch.allclose(helper.output_from_featurized(activations), built(x), atol=1e-6)
