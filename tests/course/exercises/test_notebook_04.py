"""The checks of the exercises in notebook 04: right answers are right, wrong ones get their hint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import tlkit as tl


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"updater": tl.Adam(1e-4)}, "every layer keeps its own"),
        ({"updater": tl.Adam(1e-4), "dropout": 0.5}, "replaces the layers' own"),
        ({"updater": tl.Sgd(1e-4), "dropout": None}, "Adam with a rate"),
        ({"updater": tl.Adam(1e-4), "dropout": None, "l2": 0.1}, "'l2' would be changed"),
    ],
)
def test_only_adam_without_dropout(options: dict[str, Any], hint: str) -> None:
    assert tl.check("04.1", tl.FineTuneConfiguration(updater=tl.Adam(1e-4), dropout=None))
    result = tl.check("04.1", tl.FineTuneConfiguration(**options))
    assert not result
    assert hint in result.sentence


def test_a_new_layers_own_setting_wins() -> None:
    configuration = tl.FineTuneConfiguration(activation="tanh", dropout=0.5)
    net = tl.Network.from_module(nn.Sequential(nn.Linear(4, 4)), [torch.zeros(1, 4)])
    edited = tl.TransferLearning(net).fine_tune_configuration(configuration)
    built = edited.add_layer("new", tl.Dense(256, activation="relu")).add_layer("out", tl.Output(2)).build()
    module = built.vertices["new"].module
    assert tl.check("04.2", (type(module.activation).__name__.lower(), module.dropout.p))
    assert "own setting wins" in tl.check("04.2", ("tanh", 0.5)).sentence
    assert "the configuration decides" in tl.check("04.2", ("relu", 0)).sentence


@pytest.fixture(scope="module")
def train_and_test() -> list[tl.Features]:
    """Five heaps of rows that overlap a little."""
    generator = torch.Generator().manual_seed(1)
    classes = ("a", "b", "c", "d", "e")
    centers = torch.randn(5, 64, generator=generator)
    sets = []
    for count in (300, 100):
        labels = torch.arange(count) % 5
        rows = 0.5 * centers[labels] + torch.randn(count, 64, generator=generator)
        sets.append(tl.Features({"flatten": rows}, labels, classes))
    return sets


def test_plain_descent_with_long_enough_steps(train_and_test: list[tl.Features]) -> None:
    right = tl.FineTuneConfiguration(updater=tl.Sgd(lr=0.3), seed=1)
    assert "longer steps make up" in tl.check("04.3", right, *train_and_test).sentence
    for hint, updater in {
        "steps are too short": tl.Sgd(lr=1e-4),
        "steps are too long": tl.Sgd(lr=300),
        "Plain gradient descent is asked for": tl.Nesterovs(lr=0.01, momentum=0.9),
    }.items():
        result = tl.check("04.3", tl.FineTuneConfiguration(updater=updater, seed=1), *train_and_test)
        assert not result
        assert hint in result.sentence
    assert "and this is a Sgd" in tl.check("04.3", tl.Sgd(lr=0.3), *train_and_test).sentence
