"""The checks of notebooks 03, 04 and 09: right answers are right, wrong ones get their hint."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import tlkit as tl


@pytest.fixture(scope="module")
def imagenet() -> tl.Network:
    with torch.device("meta"):
        return tl.zoo.load(weights=None)


def test_the_classes_and_the_daisies_are_counted(imagenet: tl.Network) -> None:
    assert tl.check("03.1", (1000, 1), imagenet)
    for wrong, hint in [((999, 1), "another number of classes"), ((1000, 2), "Count the names"), (7, "a pair")]:
        result = tl.check("03.1", wrong, imagenet)
        assert not result
        assert hint in result.sentence


def test_the_boundary_before_the_last_stage() -> None:
    assert tl.check("03.2", "layer3_1")
    assert tl.check("03.2", "layer3.1")
    for wrong, hint in [("layer4_0", "belongs to layer4"), ("layer2_1", "Name a later"), ("fc9", "no vertex")]:
        assert hint in tl.check("03.2", wrong).sentence


def test_the_bytes_at_the_bottleneck_of_any_network(imagenet: tl.Network) -> None:
    with torch.device("meta"):
        blocks = tl.zoo.load("resnet18", weights=None)

    def numbers(network: tl.Network) -> int:
        return torch.Size(network.output_shapes()[network.landmarks.bottleneck]).numel()

    assert "62,720 bytes" in tl.check("03.3", lambda network: 4 * numbers(network), imagenet, blocks).sentence
    for hint, answer in {
        "Each of them takes four bytes": numbers,
        "for each network": lambda network: 4 * numbers(imagenet),
        "it returns 5 for": lambda network: 5,
        "a whole number": lambda network: "many",
        "the answer is a function": 62_720,
    }.items():
        result = tl.check("03.3", answer, imagenet, blocks)
        assert not result
        assert hint in result.sentence


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
