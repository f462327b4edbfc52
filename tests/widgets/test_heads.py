"""Descriptions of heads: one form for what is the same, and a sentence for what cannot be."""

from __future__ import annotations

import pytest

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import Head
from tlkit.widgets.run_comparison import describe_layers

OUTPUT = tl.Output(3)


def test_what_is_the_default_is_left_out():
    said = Head([tl.Dense(8, activation="relu", dropout=0, weight_init="xavier"), tl.Output(3, dropout=None)])
    assert said == Head([tl.Dense(8, activation="relu"), OUTPUT])
    assert Head([tl.Dense(8), OUTPUT]).layers == (tl.Dense(8, activation="identity"), OUTPUT)
    assert Head([tl.Dense(8, activation=None), OUTPUT]) == Head([tl.Dense(8), OUTPUT])


def test_widths_keep_what_the_layer_in_their_place_has():
    head = Head([tl.Dense(8, activation="tanh", dropout=0.5), OUTPUT], epochs=7)
    wider = head.with_layers((16, 4))
    assert wider.hidden == (tl.Dense(16, activation="tanh", dropout=0.5), tl.Dense(4, activation="relu"))
    assert wider.epochs == 7
    assert head.with_layers(()).hidden == ()
    assert head.with_layers(()).output == OUTPUT


def test_layers_that_were_read_can_be_set():
    for shape, first in (((8,), []), ((5, 3, 3), [tl.GlobalPool()]), ((4, 6), [tl.Flatten()])):
        head = Head([tl.Dense(8, weight_init=tl.Normal(0, 0.1)), tl.Output(3, dropout=0.25)])
        layers = [what for _, what in head.vertices(shape)]
        assert layers[: len(first)] == first
        assert Head([OUTPUT]).with_layers(layers).layers == head.layers
    assert not Head([OUTPUT]).with_layers([tl.Flatten(), OUTPUT]).pooling
    assert Head([OUTPUT], pooling=False).with_layers([tl.GlobalPool(), OUTPUT]).pooling


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        (["256"], "A hidden layer has a whole number of units, at least 1, such as 256; got '256'"),
        ((0,), "at least 1"),
        ((True,), "at least 1"),
        ((2.5,), "whole number of units"),
        ([tl.Output(4)], "The data have 3 classes, so the output has as many"),
        ([tl.Dense(4, l2=0.1, n_in=8)], "sets 'l2' and 'n_in' as well. Build it in code"),
        ([tl.Output(3, loss="hinge")], "tells classes apart by softmax"),
        ([tl.Conv2d(4)], "widths, such as"),
        ([tl.Output(3), 4], "got Output"),
    ],
)
def test_layers_that_a_head_cannot_have_are_refused_in_words(layers, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        Head([OUTPUT]).with_layers(layers)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Head([tl.Dense(4, dropout=1.0), OUTPUT]), "dropout is the probability"),
        (lambda: Head([tl.Dense(4, activation="rleu"), OUTPUT]), "Did you mean 'relu'"),
        (lambda: Head([tl.Dense(4)]), "The last layer of a head is a tl.Output, got Dense"),
        (lambda: Head([OUTPUT], learning_rate=0.0), "learning rate is a number above 0"),
        (lambda: Head([OUTPUT], epochs=0), "epochs is a whole number"),
    ],
)
def test_a_head_is_checked_when_it_is_described(make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()


def test_parameters_are_counted_without_making_any():
    head = Head([tl.Dense(8, activation="relu"), OUTPUT])
    assert head.count((4,)) == 5 * 8 + 9 * 3
    assert head.count((4, 5, 5)) == 5 * 8 + 9 * 3
    assert Head(head.layers, pooling=False).count((4, 5, 5)) == 101 * 8 + 9 * 3


def test_heads_in_words():
    assert Head([OUTPUT]).words == "no hidden layer"
    assert Head([tl.Dense(1024), tl.Dense(256), OUTPUT]).words == "1024-256"
    layers = [tl.Dense(8, activation="gelu", dropout=0.5, weight_init="zero"), tl.Output(3, dropout=0.1)]
    assert describe_layers(Head(layers)) == "8 gelu dropout 0.5 zero, output dropout 0.1"
