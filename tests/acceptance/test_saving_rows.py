"""Rows J and S: configurations as text, and frozen networks in files (TestTransferLearningJson, ...ModelSerializer)."""

from __future__ import annotations

import pytest
import torch
import yaml
from nets import furthest, moved, weights
from yardstick import (
    configuration,
    examples,
    in_a_row,
    network,
    relu,
    train,
)

import tlkit as tl

TUNING = tl.FineTuneConfiguration(
    activation="elu",
    weight_init=tl.Normal(0, 0.3),
    bias_init=0.5,
    dropout=0.25,
    updater=tl.Adam(1e-2, betas=(0.8, 0.9)),
    l1=0.1,
    l2=None,
    gradient_normalization="clip_norm_per_layer",
    gradient_normalization_threshold=2.0,
    seed=12345,
)


def test_j1_a_configuration_as_json_or_yaml_comes_back_equal_removals_included():
    """tlkit writes JSON itself; its plain data are YAML for any YAML library."""
    for tuning in (TUNING, tl.FineTuneConfiguration(), tl.FineTuneConfiguration(dropout=None, updater=tl.Sgd(0.5))):
        as_yaml = tl.FineTuneConfiguration.from_dict(yaml.safe_load(yaml.safe_dump(tuning.to_dict())))
        for back in (tl.FineTuneConfiguration.from_json(tuning.to_json()), as_yaml):
            assert back == tuning
            assert back.given() == tuning.given()
    assert tl.FineTuneConfiguration.from_json(TUNING.to_json()).l2 is None


def chain():
    layers = {"a": relu(40, dropout=0.5), "b": relu(40, dropout=0.5), "c": relu(40, dropout=0.5), "out": tl.Output(3)}
    return in_a_row((4,), layers, updater=tl.Sgd(0.1))


def graph():
    layers = {
        "a": (relu(40, dropout=0.5), "in"),
        "b": (relu(40, dropout=0.5), "a"),
        "sum": (tl.ElementWise("add"), "a", "b"),
        "c": (relu(40, dropout=0.5), "sum"),
        "out": (tl.Output(3), "c"),
    }
    return network(layers, {"in": (4,)}, ["out"], updater=tl.Sgd(0.1))


@pytest.mark.parametrize("make", [chain, graph], ids=["chain", "graph"])
def test_s1_frozen_marks_come_back_from_a_file_with_the_same_answers_and_dropout_only_where_it_trains(make, tmp_path):
    """DL4J's page says that marks are not saved, its code saves them; ``frozen=False`` does what the page says."""
    source = make()
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.1), l2=0.1, seed=5)
    net = tl.TransferLearning(source).fine_tune_configuration(tuning).set_feature_extractor("b").build()
    loaded = tl.load(tl.save(net, tmp_path / "net.tlk"), source)
    assert loaded.frozen == {"a", "b"}
    assert configuration(loaded) == configuration(net)
    assert {name: weight.requires_grad for name, weight in loaded.named_parameters()} == {
        name: weight.requires_grad for name, weight in net.named_parameters()
    }
    x, y = examples(4)
    assert torch.equal(loaded(x), net(x))

    loaded.train()
    assert loaded(x).shape == (10, 3)
    assert not torch.equal(loaded(x), loaded(x)), "the trainable layers drop out"
    front, _ = loaded.split()
    assert same_answers(front.train()(x), front(x)), "the frozen ones don't"

    before = weights(net)
    for one in (net, loaded.eval()):
        train(one, (x, y), fits=3)
        assert moved(one, before) == {"c", "out"}
    assert furthest(weights(net), weights(loaded)) == 0

    thawed = tl.load(tmp_path / "net.tlk", source, frozen=False)
    assert thawed.frozen == frozenset()
    train(thawed, (x, y))
    assert moved(thawed, before) == {"a", "b", "c", "out"}


def same_answers(one, other):
    one, other = ((value,) if isinstance(value, torch.Tensor) else value for value in (one, other))
    return all(map(torch.equal, one, other))
