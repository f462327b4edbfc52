"""The checks of the exercises in notebook 00: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import pytest
from answers import refused
from nets import narrow_vgg16

import tlkit as tl


@pytest.fixture(scope="module")
def vgg16():
    return narrow_vgg16()


def sizes(net):
    return {name: sum(p.numel() for p in vertex.module.parameters()) for name, vertex in net.vertices.items()}


def test_parameters_behind_the_bottleneck(vgg16):
    behind, total = [sizes(vgg16)[name] for name in ("fc1", "fc2", "predictions")], sum(sizes(vgg16).values())
    assert tl.check("00.1", sum(behind), vgg16)
    refused("00.1", total - sum(behind), "are the frozen ones", vgg16)
    refused("00.1", total, "all parameters of the network", vgg16)
    refused("00.1", behind[0], "is a part of it. 3 vertices", vgg16)
    refused("00.1", 1, "Add up the parameters", vgg16)


def test_the_boundary_of_the_fewest_bytes(vgg16):
    assert "32 bytes an image" in repr(tl.check("00.2", "block5_pool", vgg16))
    refused("00.2", "fc1", "there is a vertex with fewer", vgg16)
    refused("00.2", "predictions", "nothing would be left to train", vgg16)
    refused("00.2", "fc_2", "Did you mean 'fc2'?", vgg16)
    refused("00.2", 12, "the name of a vertex", vgg16)


def test_features_with_height_and_width_before_a_light_head(vgg16):
    def cut(boundary, width=4):
        edit = tl.TransferLearning(vgg16).n_out_replace("fc1", width).n_out_replace("fc2", width)
        return edit.set_feature_extractor(boundary).build()

    assert tl.check("00.3", cut("block4_pool", 1).freeze("block5_conv3"))
    refused("00.3", cut("flatten"), "without height and width")
    refused("00.3", cut("block4_pool"), "most of them in")
    refused("00.3", vgg16, "nothing is frozen")
