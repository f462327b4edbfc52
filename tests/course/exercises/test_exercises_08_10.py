"""The checks of the exercises in notebooks 08 and 10."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tlkit as tl


def refused(number, answer, hint, *about):
    result = tl.check(number, answer, *about)
    assert not result
    assert hint in repr(result)


def test_photos_left_after_a_power_cut():
    assert tl.check("08.1", 1252)
    refused("08.1", 1032, "kept in shards of 256")
    refused("08.1", 1280, "how many are not")
    refused("08.1", 996, "it is computed anew")
    refused("08.1", 7, "How many whole shards")


def test_what_makes_a_store_compute_again():
    right = {"photo", "size", "weight"}
    assert tl.check("08.2", right)
    assert tl.check("08.2", sorted(right))
    refused("08.2", right | {"head"}, "'head' changes what happens behind the boundary")
    refused("08.2", {"photo"}, "'photo' is right, and not all")
    refused("08.2", {"foto"}, "'foto' is none of the words")


@pytest.fixture(scope="module")
def net():
    layers = [nn.Conv2d(3, 4, 3, stride=2), nn.Conv2d(4, 4, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    body = tl.Network.from_module(nn.Sequential(*layers, nn.Linear(4, 5)), [torch.zeros(1, 3, 16, 16)])
    early, late, flat, head = body.vertices
    body.landmarks = tl.Landmarks(late, flat, head, early)
    return tl.TransferLearning(body).set_feature_extractor(flat).build()


def test_a_store_at_an_earlier_boundary(net, tmp_path):
    data = (torch.rand(10, 3, 16, 16), torch.arange(10) % 5)

    def store(boundary=net.landmarks.fine_tune_from, rows=10, dtype=torch.float16):
        helper = tl.TransferLearningHelper(tl.TransferLearning(net).build(), boundary)
        few = (data[0][:rows], data[1][:rows])
        return helper.featurize(few, to=tmp_path / "store", dtype=dtype, progress=False)

    assert tl.check("08.3", store(), net)
    refused("08.3", store(net.landmarks.bottleneck), "these are features of", net)
    refused("08.3", store(dtype=torch.float32), "dtype=torch.float16", net)
    refused("08.3", store(rows=9), "has 9 rows", net)
    refused("08.3", store().load(), "the answer is a feature store", net)
    frozen_earlier = tl.TransferLearning(net).set_feature_extractor(net.landmarks.fine_tune_from).build()
    refused("08.3", store(), "itself was frozen", frozen_earlier)


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
