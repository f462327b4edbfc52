"""The networks that the exercises of notebooks 05 to 07 are about."""

from __future__ import annotations

import pytest
import torch
from nets import narrow_vgg16

import tlkit as tl

BACKBONES = ("efficientnet_lite0", "vgg16")


@pytest.fixture(scope="module", params=BACKBONES)
def net(request):
    """The structure of a backbone, without its weights."""
    with torch.device("meta"):
        return tl.zoo.load(request.param, weights=None)


@pytest.fixture(scope="module")
def trained():
    """A narrow VGG16 with a new head, as notebook 07 loads it."""
    source = narrow_vgg16(batch_norm=True)
    source.landmarks = tl.Landmarks("block5_pool", "fc2", "predictions", "block4_pool", "fc2")  # as in images of 224
    return (
        tl.TransferLearning(source)
        .set_feature_extractor("block5_pool")
        .n_out_replace("fc2", 10)
        .remove_vertex_and_connections("predictions")
        .add_layer("fc3", tl.Dense(6), "fc2")
        .add_layer("newpredictions", tl.Output(5), "fc3")
        .set_outputs("newpredictions")
        .build()
    )


@pytest.fixture
def edit(trained):
    return tl.TransferLearning(trained)
