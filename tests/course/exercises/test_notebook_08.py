"""The checks of the exercises in notebook 08: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
import torch
from answers import refused
from torch import nn

import tlkit as tl


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
