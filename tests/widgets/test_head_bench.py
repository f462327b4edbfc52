"""Heads trained and tested on features, without a widget."""

from __future__ import annotations

import pytest
import torch
from faces import CLASSES, features

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import Head
from tlkit.widgets.head_bench import HeadBench

OUTPUT = tl.Output(3)


def test_a_run_has_the_accuracy_after_each_epoch_and_at_the_end():
    bench, told = HeadBench(features(150), features(30, seed=1)), []
    net, run = bench.run(Head([OUTPUT], epochs=3), told=told.append)
    assert [step for step, _ in run.history.evaluations] == [3, 6, 9]
    assert run.accuracy == run.history.evaluations[-1][1] == tl.evaluate(net, features(30, seed=1)).accuracy
    assert len(run.history.losses) == 9
    assert run.parameters == 27 == sum(value.numel() for value in net.parameters())
    first = run.history.evaluations[0][1]
    assert told[0] == f"no hidden layer: test accuracy {first:.1%} after 1 of 3 epochs"


def test_training_that_is_given_up_ends_within_a_batch_and_gives_nothing():
    asked = []

    def given_up():
        asked.append(True)
        return len(asked) >= 3

    assert HeadBench(features(640), features(30, seed=1)).run(Head([OUTPUT], epochs=30), given_up) is None
    assert len(asked) == 4  # after each of three batches, and once at the end


def test_a_boundary_that_is_called_like_a_new_layer_is_no_trouble():
    labels = torch.arange(12) % 3
    data = tl.Features({"predictions": torch.rand(12, 4)}, labels, CLASSES)
    net, run = HeadBench(data, data).run(Head([tl.Dense(4), OUTPUT]))
    assert net.outputs == ("new_predictions",)
    assert run.parameters == net.summary().total


def test_code_names_everything_that_is_not_the_default():
    layers = [tl.Dense(8, activation="tanh", dropout=0.5, weight_init=tl.Normal(0, 0.1)), tl.Output(3, dropout=0.25)]
    code = HeadBench(features(), features()).code(Head(layers))
    assert 'tl.Dense(8, activation="tanh", weight_init=tl.Normal(mean=0, std=0.1), dropout=0.5)' in code
    assert "tl.Output(3, dropout=0.25)" in code


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        (torch.rand(3, 4), "A head is designed on features, got Tensor. Featurize"),
        (features(shape=(9,)), "differ in their shapes"),
    ],
)
def test_data_that_cannot_serve_are_refused_in_words(train, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        HeadBench(train, features())
