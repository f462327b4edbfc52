"""Labels: clear ones are taken in whatever form they come, others are refused before the first step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from by_hand import fit
from nets import blobs, classifier, furthest, moved, weights
from torch.nn import functional as F

import tlkit as tl

FORMS = {
    "int32": lambda y: y.int(),
    "int16": lambda y: y.short(),
    "uint8": lambda y: y.to(torch.uint8),
    "column": lambda y: y[:, None],
    "one-hot": lambda y: F.one_hot(y, 3),
    "one-hot bool": lambda y: F.one_hot(y, 3).bool(),
    "float": lambda y: y.float(),
    "float column": lambda y: y.double()[:, None],
    "numpy": lambda y: y.numpy(),
    "numpy int32": lambda y: y.numpy().astype("int32"),
    "numpy float": lambda y: y.numpy().astype(float),
    "list": lambda y: y.tolist(),
}


@pytest.mark.parametrize("form", FORMS)
def test_class_numbers_mean_the_same_in_every_form(form):
    x, y = blobs()
    one, other = classifier(4, 8, 3), classifier(4, 8, 3)
    fit(one, (x, y), batch_size=8)
    fit(other, (x, FORMS[form](y)), batch_size=8)
    assert furthest(weights(one), weights(other)) == 0


def test_truth_values_are_two_classes():
    x, y = blobs(classes=2)
    one, other = classifier(4, 8, 2), classifier(4, 8, 2)
    fit(one, (x, y))
    fit(other, (x, y.bool()))
    assert furthest(weights(one), weights(other)) == 0


def test_a_missing_class_number_may_be_nan_among_floats():
    x, y = blobs()
    one, other = classifier(4, 8, 3), classifier(4, 8, 3)
    missing = y.float()
    missing[3], y[3] = math.nan, -100
    fit(one, (x, y))
    fit(other, (x, missing))
    assert furthest(weights(one), weights(other)) == 0


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rows_may_be_arrays(kind):
    x, y = blobs()
    one, other = classifier(4, 8, 3), classifier(4, 8, 3)
    fit(one, (x, y))
    fit(other, (x.numpy().astype(kind), y.numpy()))
    assert furthest(weights(one), weights(other)) == 0
    assert tl.evaluate(one, (x.numpy(), y.numpy())).accuracy == tl.evaluate(one, (x, y)).accuracy


def soft(change):
    shares = F.one_hot(blobs()[1], 3).float()
    shares[4] = torch.tensor(change)
    return shares


CLASSES = {
    "sums to 2": (soft([1.0, 1.0, 0.0]), r"add up to 1; row 4 is \[1.0, 1.0, 0.0\]. Divide each row"),
    "negative": (soft([1.5, -0.5, 0.0]), r"row 4 is \[1.5, -0.5, 0.0\]"),
    "fractions": (
        blobs()[1] / 2,
        r"class numbers of shape \(24,\), or float probabilities of shape \(24, 3\); got",
    ),
    "too wide": (torch.zeros(24, 5), r"got float32 of shape \(24, 5\)"),
    "two ones": (torch.ones(24, 3, dtype=torch.long), r"got int64 of shape \(24, 3\)"),
    "beyond": (blobs()[1].float() + 1, "the labels go from 1 to 3"),
}
YES_OR_NO = {
    "class numbers": (torch.arange(24) % 5, "label between 0 .no. and 1 .yes.; the labels go from 0 to 4. For class n"),
    "negative": (-torch.rand(24, 1), "between 0"),
    "minus one": (1 - 2 * (torch.arange(24) % 2), "the labels go from -1 to 1"),
}


@pytest.mark.parametrize("wrong", CLASSES)
def test_labels_that_are_no_classes_are_refused_before_anything_moves(wrong):
    labels, said = CLASSES[wrong]
    net = classifier(4, 8, 3)
    before = weights(net)
    with pytest.raises(ValueError, match=said):
        fit(net, (blobs()[0], labels), batch_size=4)
    assert moved(net, before) == set()


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "hinge"])
@pytest.mark.parametrize("wrong", YES_OR_NO)
def test_labels_that_are_no_yes_or_no_are_refused_before_anything_moves(wrong, loss):
    labels, said = YES_OR_NO[wrong]
    net = classifier(4, 8, 1, loss=loss)
    before = weights(net)
    with pytest.raises(ValueError, match=said):
        fit(net, (blobs()[0], labels), batch_size=4)
    assert moved(net, before) == set()


def test_a_missing_yes_or_no_is_no_reason_to_refuse():
    labels = (torch.arange(24) % 2).float()
    labels[2] = math.nan
    assert fit(classifier(4, 8, 1, loss="binary_cross_entropy"), (blobs()[0], labels)).stopped == ""


def test_a_distribution_may_be_missing_or_a_little_off():
    shares = soft([math.nan] * 3)
    shares[5] = torch.tensor([0.333, 0.333, 0.333])
    assert fit(classifier(4, 8, 3), (blobs()[0], shares)).stopped == ""


def test_texts_are_no_labels():
    with pytest.raises(TypeError, match="Labels are numbers, for example each row's position in the list of classes"):
        fit(classifier(4, 8, 3), (blobs()[0], np.array(["rose"] * 24)))


def test_a_data_set_of_ones_own_hands_out_int64():
    class Own:
        classes = ()
        labels = blobs()[1].int()

        def __len__(self):
            return 24

        def batches(self, batch_size, order=None):
            yield blobs()[0], self.labels

    with pytest.raises(ValueError, match=r"got int32 of shape \(24,\)"):
        fit(classifier(4, 8, 3), Own())


@pytest.mark.parametrize("option", ["epochs", "batch_size", "max_iterations"])
@pytest.mark.parametrize("value", [1.5, "2", True])
def test_amounts_are_whole_numbers(option, value):
    with pytest.raises(TypeError, match=f"{option} is a whole number from 1 on, got {value!r}"):
        fit(classifier(4, 3), **{option: value})
