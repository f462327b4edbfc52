"""The checks of the exercises in notebook 01: right answers are right, wrong ones get their hint."""

from __future__ import annotations

from types import SimpleNamespace

from answers import refused
from nets import narrow_vgg16

import tlkit as tl


def test_bytes_of_features():
    assert tl.check("01.1", 301_056_000)
    refused("01.1", 301_056_000 // 4, "Each of them takes four bytes")
    refused("01.1", 512 * 49 * 4, "is one photo's share")
    refused("01.1", 512 * 7 * 4 * 3000, "so 49 numbers")
    refused("01.1", 1, "Multiply maps")


def test_epochs_until_the_helper_pays():
    assert tl.check("01.2", 2)
    refused("01.2", 1, "with 1 epoch the helper takes 76 s")
    refused("01.2", 3, "fewer do, too")


def test_two_feature_tensors():
    imagenet, flowers = narrow_vgg16(), SimpleNamespace(classes=("a", "b", "c", "d", "e"))
    places = imagenet.landmarks

    def answer(boundary=places.penultimate, n_out=5):
        edit = tl.TransferLearning(imagenet).remove_vertex_and_connections(places.head)
        if boundary:
            edit.set_feature_extractor(boundary)
        edit.add_layer("pool", tl.GlobalPool(), places.bottleneck)
        return edit.add_layer("head", tl.Output(n_out), "pool", places.penultimate).set_outputs("head").build()

    edit = tl.TransferLearning(imagenet).set_feature_extractor(places.penultimate)
    edit.remove_vertex_keep_connections(places.head).add_layer(places.head, tl.Output(5), places.penultimate)
    assert tl.check("01.3", answer(), imagenet, flowers)
    refused("01.3", answer(boundary=None), "nothing is frozen", imagenet, flowers)
    refused("01.3", answer(n_out=2), "answers for 2 classes", imagenet, flowers)
    refused("01.3", answer(places.fine_tune_from), "and nothing else", imagenet, flowers)
    refused("01.3", edit.build(), f"nothing unfrozen reads '{places.bottleneck}'", imagenet, flowers)
