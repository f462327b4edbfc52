"""The checks of the exercises in notebook 10: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
import torch
from answers import refused
from torch import nn

import tlkit as tl


@pytest.fixture
def chain():
    layers = [nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)]
    return tl.Network.from_module(nn.Sequential(*layers), [torch.zeros(1, 8)])


def test_a_translation_from_java(chain):
    def edited(boundary=0, width=10, n_out=5):
        builder = tl.TransferLearning(chain).set_feature_extractor(boundary).remove_output_layer()
        return builder.n_out_replace(1, width).add_layer("answer", tl.Output(n_out)).build()

    assert tl.check("10.1", edited(), chain)
    refused("10.1", edited(n_out=2), "answers for 2 classes", chain)
    refused("10.1", edited(width=4), "layer 1 has 4 outputs", chain)
    refused("10.1", edited(boundary=1), "'0' and '2'", chain)
    refused("10.1", tl.TransferLearning(chain).add_layer("answer", tl.Output(5)).build(), "has 4 layers", chain)
    refused("10.1", chain, "has no loss", chain)


def test_scores_by_hand():
    assert tl.check("10.2", (0.7, 0.625))
    refused("10.2", (0.7, 1), "1 is the recall")
    refused("10.2", (0.7, 0.4), "How many images were called daisies")
    refused("10.2", (0.5, 0.625), "is not the accuracy")


class Below(tl.Listener):
    bound = 0.5

    def iteration_done(self, training):
        if training.loss < self.bound:
            training.stop("good enough")


class BelowOne(Below):
    bound = 1.0


class BelowThreeTenths(Below):
    bound = 0.3


def test_a_listener_that_ends_training():
    assert tl.check("10.3", Below)
    assert tl.check("10.3", Below())
    refused("10.3", BelowOne, "whose loss stays at")
    refused("10.3", BelowThreeTenths, "End it at the first below 0.5")
    refused("10.3", tl.Listener, "training went on below")
    refused("10.3", 3, "a class made from tl.Listener")
