"""What a cut means, held against networks that are really cut there."""

from __future__ import annotations

import math

import pytest
import torch
from faces import chain, residual
from torch import nn

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets.cuts import Cuts


def two_inputs():
    left, right = (tl.Vertex(nn.Linear(2, 3), (name,)) for name in ("a", "b"))
    both = tl.Vertex(tl.Merge().make((3,), (3,)), ("left", "right"))
    head = tl.Vertex(nn.Linear(6, 2), ("both",))
    return tl.Network(
        {"left": left, "right": right, "both": both, "head": head}, inputs={"a": (2,), "b": (2,)}, outputs=["head"]
    )


def two_outputs():
    vertices = {
        "trunk": tl.Vertex(nn.Linear(4, 3), ("x",)),
        "kind": tl.Vertex(nn.Linear(3, 5), ("trunk",)),
        "age": tl.Vertex(nn.Linear(3, 1), ("trunk",)),
    }
    return tl.Network(vertices, inputs={"x": (4,)}, outputs=["kind", "age"])


@pytest.mark.parametrize(
    ("make", "boundary"),
    [
        (chain, ()),
        (chain, ("0",)),
        (chain, ("3",)),
        (residual, ("first",)),
        (residual, ("second",)),  # `first` is read around it: two boundary tensors
        (residual, ("add",)),
        (two_inputs, ("left",)),
        (two_inputs, ("left", "right")),
        (two_outputs, ("trunk",)),
        (two_outputs, ("kind",)),
    ],
)
def test_a_cut_has_the_numbers_of_the_network_that_is_built(make, boundary):
    net = make()
    names = [name if name in net.vertices else list(net.vertices)[int(name)] for name in boundary]
    cuts = Cuts(net)
    cut = cuts.at(cuts.resolve(tuple(names)))
    built = tl.TransferLearning(net).set_feature_extractor(*names).build()
    summary = built.summary()
    assert (cut.frozen, cut.trainable) == (summary.frozen, summary.trainable)
    assert cut.vertices == built.frozen
    if names:
        behind = built.split()[1]
        assert cut.shapes == behind.input_shapes
        assert list(cut.shapes) == list(built.boundary())
        assert cut.nbytes == 4 * sum(math.prod(shape) for shape in behind.input_shapes.values())
        assert cut.trainable_work == sum(Cuts(behind).work.values())
    else:
        assert cut.shapes == net.input_shapes
        assert cut.trainable_work == cut.work


def test_multiplications_are_those_of_the_layers():
    conv, pool, flat, fc1, fc2 = Cuts(chain()).work.values()
    assert (conv, pool, flat, fc1, fc2) == (4 * 27 * 6 * 6, 0, 0, 36 * 8, 8 * 3)


def test_names_that_feed_others_are_frozen_with_them():
    net = residual()
    cuts = Cuts(net)
    assert cuts.resolve(("first", "second")) == ("second",)
    assert cuts.resolve(["add", "first", "second"]) == ("add",)
    assert cuts.resolve(None) == cuts.resolve(()) == ()


def test_boundaries_come_in_the_order_of_the_network():
    cuts = Cuts(two_inputs())
    assert cuts.resolve(("right", "left")) == ("left", "right")
    assert list(cuts.at(("left",)).shapes) == ["b", "left"]  # the other input is read as it is


@pytest.mark.parametrize(
    ("make", "boundary", "sentence"),
    [
        (residual, "last", "Frozen up to 'last', the whole network is frozen: nothing would be left to train. Choose"),
        (two_outputs, ("kind", "age"), "Frozen up to 'kind' and 'age', the whole network is frozen"),
        (residual, "frist", "no vertex 'frist'. Did you mean 'first'"),
        (residual, 1, "Index 1 needs a chain of layers"),
    ],
)
def test_what_cannot_be_frozen_is_said_in_words(make, boundary, sentence):
    with pytest.raises((ValueError, KeyError, TypeError), match=sentence):
        Cuts(make()).resolve(boundary)


def test_it_starts_where_the_network_is_frozen():
    net = residual()
    assert Cuts(net).default() == (net.cut_points[-1],)
    assert Cuts(tl.TransferLearning(net).set_feature_extractor("second").build()).default() == ("second",)
    assert Cuts(two_inputs().freeze("left", "right")).default() == ("left", "right")
    assert Cuts(two_outputs().freeze("kind")).default() == ("kind",)
    last = list(chain().vertices)[-1]
    assert Cuts(chain().freeze(last, backprop=True)).default() == (chain().cut_points[-1],)  # no boundary says that


def test_parts_are_the_stages_divided_where_the_state_changes():
    with torch.device("meta"):  # its structure alone
        vgg16 = tl.zoo.load("vgg16", weights=None)
    cuts = Cuts(vgg16)
    parts = cuts.parts(vgg16.ancestors("block5_conv2"))
    labels = ["block1", "block2", "block3", "block4", "block5 conv1–conv2", "block5 conv3–pool", "flatten", "fc1"]
    assert [part.label for part in parts] == [*labels, "fc2", "predictions"]
    assert [part.frozen for part in parts] == [True] * 5 + [False] * 5
    assert sum(part.parameters for part in parts) == 138_357_544
    assert sum(part.work for part in parts) == 15_470_264_320
