"""Features divided into rows to train on and rows to test on, the same share of every class."""

from __future__ import annotations

import pytest
import torch
from faces import CLASSES, features

import tlkit as tl

pytest.importorskip("ipywidgets")

from tlkit.widgets import hold_out


def test_a_fifth_of_every_class_is_held_out():
    whole = features(60)
    train, test = hold_out(whole)
    assert torch.bincount(train.labels).tolist() == [16, 16, 16]
    assert torch.bincount(test.labels).tolist() == [4, 4, 4]
    rows = torch.cat([train.tensors["cut"], test.tensors["cut"]])
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, whole.tensors["cut"].tolist()))
    again = hold_out(whole)[1]
    assert again.tensors["cut"].equal(test.tensors["cut"])
    assert not hold_out(whole, seed=1)[1].tensors["cut"].equal(test.tensors["cut"])


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: hold_out(features(), 1.0), "share is the part of the rows"),
        (lambda: hold_out(features(4)), "class 'roses' has a single row"),
        (
            lambda: hold_out(tl.Features({"a": torch.rand(6, 2), "b": torch.rand(6, 2)}, torch.arange(6) % 3, CLASSES)),
            "one boundary; these have 'a' and 'b'",
        ),
        (lambda: hold_out(tl.Features({"a": torch.rand(6, 2)}, torch.zeros(6).long(), ["daisy"])), "two classes"),
    ],
)
def test_what_cannot_be_divided_is_refused_in_words(make, sentence):
    with pytest.raises((TypeError, ValueError), match=sentence):
        make()


def test_features_too_large_to_divide_are_refused(monkeypatch):
    monkeypatch.setattr("tlkit.widgets.holding_out.available_memory", lambda: 100)
    with pytest.raises(ValueError, match=r"take 1\.9 kB, too much"):
        hold_out(features())
