"""The checks of the exercises in notebook 09: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import tlkit as tl


@pytest.fixture(scope="module")
def imagenet() -> tl.Network:
    with torch.device("meta"):
        return tl.zoo.load(weights=None)


def test_which_layers_are_drawn_anew() -> None:
    chain = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    net = tl.Network.from_module(chain, [torch.zeros(1, 8)])
    new = tl.TransferLearning(net).n_out_replace("0", 3).build()
    weights = {name: (net.vertices[name].module.weight, new.vertices[name].module.weight) for name in net.vertices}
    changed = [name for name, (old, now) in weights.items() if old.shape != now.shape or not torch.equal(old, now)]
    assert tl.check("09.1", changed)
    assert "Its weights stay" in tl.check("09.1", ["0", "2", "4"]).sentence
    assert "not alone" in tl.check("09.1", "0").sentence


def test_a_head_drawn_anew_behind_the_same_boundary() -> None:
    layers = nn.Sequential(nn.Linear(8, 500), nn.ReLU())
    start = tl.Network.from_module(layers, [torch.zeros(1, 8)])
    before = tl.TransferLearning(start).set_feature_extractor("0").add_layer("head", tl.Output(5)).build()
    assert tl.check("09.2", tl.TransferLearning(before).n_out_replace("head", 5, "relu").build(), before)
    wrong = {
        "the network itself": before,
        "still has its old weights": tl.TransferLearning(before).build(),
        "Say weight_init='relu'": tl.TransferLearning(before).n_out_replace("head", 5, tl.Normal(0, 1)).build(),
        "frozen marks": tl.TransferLearning(before).set_feature_extractor().n_out_replace("head", 5, "relu").build(),
    }
    for hint, answer in wrong.items():
        result = tl.check("09.2", answer, before)
        assert not result
        assert hint in result.sentence


@pytest.mark.slow
def test_nothing_is_frozen_that_was_drawn_anew(imagenet: tl.Network) -> None:
    places, flowers = imagenet.landmarks, SimpleNamespace(classes=("a", "b", "c", "d", "e"))

    def answer(boundary: str, outputs: int = 256, head: bool = True) -> tl.Network:
        edit = tl.TransferLearning(imagenet).n_out_replace(places.hidden, outputs)
        if boundary:
            edit.set_feature_extractor(boundary)
        if head:
            edit.remove_vertex_keep_connections(places.head)
            edit.add_layer(places.head, tl.Output(5), places.penultimate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of weights that are drawn anew and frozen
            return edit.build(validate_output_layer=False)

    def said(net: tl.Network) -> str:
        return tl.check("09.3", net, imagenet, flowers).sentence

    assert tl.check("09.3", answer(places.bottleneck), imagenet, flowers)
    assert "is frozen with weights that were drawn at random" in said(answer(places.penultimate))
    assert "leaves more to train" in said(answer(places.fine_tune_from))
    assert "has 512 outputs" in said(answer(places.bottleneck, outputs=512))
    assert "still the original's last layer" in said(answer(places.bottleneck, head=False))
    assert "nothing is frozen" in said(answer(""))
