"""The profile of a network's cut points: true counts, one pass, and heads that are what they claim to be."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from nets import furthest, narrow_vgg16, seeded, weights
from torch import nn

import tlkit as tl
from tlkit.features.rows import Features
from tlkit.graph.network import Network
from tlkit.profiling import average, freeze_profile
from tlkit.training.evaluation import evaluate
from tlkit.training.lbfgs import solve

CLASSES = ("bright", "dark", "red")


class Counted(Features):
    """Pictures that count how often they are read."""

    reads = 0

    def batches(self, batch_size, order=None):
        for x, y in super().batches(batch_size, order):
            self.reads += len(y)
            yield x, y


def skies(count: int, seed: int) -> Counted:
    """Noise around three colors."""
    with seeded(seed):
        labels = torch.arange(count) % 3
        colors = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [1.0, -1.0, -1.0]])
        return Counted({"x": torch.randn(count, 3, 32, 32) + colors[labels][:, :, None, None]}, labels, CLASSES)


@pytest.fixture(scope="module")
def net():
    return narrow_vgg16(batch_norm=True, classes=3)


@pytest.fixture(scope="module")
def images():
    return tl.images.Split(skies(36, 1), skies(15, 2))


@pytest.fixture(scope="module")
def profile(net, images):
    before = weights(net)
    found = freeze_profile(net, images, batch_size=8, progress=False)
    assert furthest(before, weights(net)) == 0
    return found


@pytest.mark.slow
def test_each_cut_point_has_a_row_in_the_networks_order(net, profile):
    assert tuple(row.boundary for row in profile.rows) == net.cut_points
    shapes = net.output_shapes()
    assert all(row.shape == shapes[row.boundary] for row in profile.rows)


@pytest.mark.slow
def test_parameters_are_counted_as_the_summary_counts_them(net, profile):
    for row in profile.rows:
        summary = tl.TransferLearning(net).set_feature_extractor(row.boundary).build().summary()
        assert (row.frozen, row.trainable) == (summary.frozen, summary.trainable)


@pytest.mark.slow
def test_the_size_of_the_store_is_that_of_whole_features(net, images, profile):
    copy = tl.TransferLearning(net).build()
    for name in ("block2_pool", "fc1"):
        helper = tl.TransferLearningHelper(copy, name)
        both = [helper.featurize(data, progress=False) for data in (images.train, images.test)]
        assert profile.at(name).store_bytes == sum(features.nbytes for features in both)


@pytest.mark.slow
def test_every_image_runs_through_the_network_once(net):
    images = tl.images.Split(skies(9, 1), skies(6, 2))
    freeze_profile(net, images, progress=False)
    assert (images.train.reads, images.test.reads) == (9, 6)


@pytest.mark.slow
def test_heads_read_what_the_cut_points_answer_averaged(net, images, profile):
    name = "block3_conv2"
    whole = tl.TransferLearningHelper(tl.TransferLearning(net).build(), name).featurize(images.train, progress=False)
    train, test = profile.features(name)
    assert train.names == test.names == (name,)
    assert train.classes == CLASSES
    torch.testing.assert_close(train.tensors[name], whole.tensors[name].mean((2, 3)), atol=1e-4, rtol=1e-4)


@pytest.mark.slow  # featurizes at every cut point
def test_the_accuracy_is_that_of_a_linear_head_on_these_features(profile):
    for name in ("block1_pool", "fc2"):
        train, test = profile.features(name)
        start = Network({}, inputs=train.shapes, outputs=[name])
        head = tl.TransferLearning(start).add_layer("y", tl.Output(3, weight_init="normal"), name).set_outputs("y")
        head = head.build()
        solve(head, train)
        assert evaluate(head, test).accuracy == profile.at(name).accuracy


def test_colors_are_told_apart_early(profile):
    assert profile.at("block1_conv1").accuracy == 1.0
    assert profile.best.accuracy == 1.0


def test_of_equal_heads_the_last_is_the_best(profile):
    rows = tuple(replace(row, accuracy=0.5) for row in profile.rows)
    assert replace(profile, rows=rows).best is rows[-1]


def test_an_epoch_takes_less_the_more_is_frozen(profile):
    seconds = [row.seconds for row in profile.rows]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] > 0


def test_texts_hold_no_seconds_and_the_short_one_nothing_measured(profile):
    assert repr(profile) == "FreezeProfile(21 cut points, 36 training images, 15 test images)"
    table = str(profile)
    assert "block3_pool" in table
    assert "100%" in table
    assert not re.search(r"\bs\b|second", table)


def test_the_table_says_what_was_averaged_and_what_the_store_keeps(profile):
    html = profile._repr_html_()
    assert html.count("<tr>") == 1 + len(profile.rows)
    assert "averaged over height and width" in html
    assert "the store keeps it whole, as float32" in html
    assert "seconds an epoch" in html
    assert html.count("font-weight:bold") == 6  # the cells of the best row


def test_a_mistyped_cut_point_names_its_neighbors(profile):
    with pytest.raises(KeyError, match=r"no cut point 'block4_pol'. Did you mean 'block4_pool'"):
        profile.at("block4_pol")


def test_a_single_set_of_images_is_refused(net, images):
    with pytest.raises(TypeError, match=r"takes a training and a test set.*got Counted.*tl.images.Split"):
        freeze_profile(net, images.train)


def test_sets_of_other_classes_are_refused(net, images):
    other = Features({"x": images.test.tensors["x"]}, images.test.labels, ("a", "b", "c"))
    with pytest.raises(ValueError, match=r"bright, dark, red, the test set a, b, c. Both need the same ones"):
        freeze_profile(net, tl.images.Split(images.train, other))


def test_a_network_without_a_cut_is_refused(images):
    net = tl.Network.from_module(nn.Sequential(nn.Flatten(), nn.Linear(3072, 3)), [torch.zeros(1, 3, 32, 32)])
    whole = tl.Network({"all": tl.Vertex(net.to_module(), ("x",))}, {"x": (3, 32, 32)}, ["all"])
    with pytest.raises(ValueError, match="cannot be cut in two"):
        freeze_profile(whole, images)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 7, 7), (2, 5, 4, 6), (2, 7, 7, 5), (2, 9, 5), (2, 7, 7, 7)], ids=str)
def test_answers_are_averaged_wherever_channels_stand(shape):
    x = torch.randn(shape)
    width = 7 if shape == (2, 7, 7, 7) else 5
    assert average(x).shape == (2, width)
    assert average(x).mean() == pytest.approx(float(x.mean()), abs=1e-6)
