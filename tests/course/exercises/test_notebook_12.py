"""The checks of the exercises in notebook 12: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
import torch
from answers import refused
from nets import narrow_vgg16

import tlkit as tl
from tlkit.features.rows import Features
from tlkit.profiling import CutProfile, FreezeProfile


@pytest.fixture(scope="module")
def net():
    return narrow_vgg16(classes=2)


@pytest.fixture(scope="module")
def profile():
    rows = [
        CutProfile("block3_pool", (100, 14, 14), 0, 9, 100, 9.0, 0.97),
        CutProfile("block4_pool", (50, 14, 14), 0, 9, 100, 5.0, 0.90),
        CutProfile("block5_pool", (20, 7, 7), 0, 9, 100, 2.0, 0.96),
        CutProfile("fc2", (12,), 0, 9, 100, 1.0, 0.88),
    ]
    data = Features({row.boundary: torch.zeros(2, 3) for row in rows}, torch.arange(2), ("a", "b"))
    return FreezeProfile(tuple(rows), data, data)


def test_the_size_of_a_store(net):
    channels, height, width = net.output_shapes()[net.landmarks.fine_tune_from]
    numbers = channels * height * width
    assert tl.check("12.1", 40_000 * numbers, net)
    refused("12.1", 10_000 * numbers, "each takes four bytes", net)
    refused("12.1", 4 * numbers, "There are 10,000", net)
    refused("12.1", 40_000 * channels, "the size of averaged features", net)
    refused("12.1", 1, "numbers for one photo", net)


def test_the_earliest_cut_point_that_is_good_enough(profile):
    assert tl.check("12.2", "block3_pool", profile)
    refused("12.2", "block5_pool", "it is not the first", profile)
    refused("12.2", "block4_pool", "that is too low", profile)
    refused("12.2", "block4_pol", "Did you mean 'block4_pool'", profile)
    refused("12.2", 3, "the name of a cut point", profile)


def test_the_best_cut_point_that_can_be_afforded(net, profile):
    def frozen(name):
        return tl.TransferLearning(net).set_feature_extractor(name).build()

    assert tl.check("12.3", frozen("block5_pool"), profile)
    refused("12.3", frozen("block3_pool"), "takes 7.8 GB; there are 5.0 GB", profile)
    refused("12.3", frozen("fc2"), "Another cut point that fits has a better one", profile)
    refused("12.3", net, "nothing is frozen", profile)
    refused("12.3", "block5_pool", "the answer is a network", profile)
