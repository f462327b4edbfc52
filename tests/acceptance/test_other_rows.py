"""Rows U, B, N, K and Z: summaries, batch norm, whole architectures, imported networks."""

from __future__ import annotations

import copy

import pytest
import torch
from nets import furthest, moved, narrow_vgg16, pictures, seeded, weights
from torch import nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock, ResNet
from yardstick import (
    conv,
    examples,
    in_a_row,
    network,
    own_weights,
    relu,
    same,
    train,
    trained_vertices,
)

import tlkit as tl

# -- summaries ------------------------------------------------------------------------------------------------------


def chain():
    return in_a_row((4,), {"a": relu(6), "b": relu(5), "out": tl.Output(3)})


def graph():
    layers = {
        "a": (relu(5), "in"),
        "b": (relu(5), "side"),
        "sum": (tl.ElementWise("add"), "a", "b"),
        "out": (tl.Output(3), "sum"),
    }
    return network(layers, {"in": (4,), "side": (6,)}, ["out"])


@pytest.mark.parametrize("make", [chain, graph], ids=["chain", "graph"])
def test_u2_the_summary_of_a_frozen_network_counts_what_is_frozen_and_shows_every_shape(make):
    """DL4J prints shapes only when it is told the input types; a network here always knows them."""
    free = make().summary()
    assert (free.frozen, free.trainable) == (0, free.total)
    built = tl.TransferLearning(make()).set_feature_extractor("b").build()
    for net in (built, make().freeze("b")):
        summary = net.summary()
        held = [vertex.module for name, vertex in net.vertices.items() if name in net.frozen]
        assert summary.frozen == sum(weight.numel() for module in held for weight in module.parameters()) > 0
        assert summary.trainable + summary.frozen == summary.total == free.total
        marks = {row.vertex: row.training for row in summary.rows}
        assert {name for name, mark in marks.items() if mark == "frozen"} == net.frozen
        shapes = {row.vertex: row.output_shape for row in summary.rows}
        assert shapes == {name: str(*shape) for name, shape in net.output_shapes().items()}
        for name in (*net.inputs, *net.vertices):
            assert f"\n{name} " in str(summary)
        assert f"Frozen parameters: {summary.frozen}" in str(summary)


# -- batch norm behind a convolution --------------------------------------------------------------------------------


def test_b1_batch_norm_and_a_new_output_take_the_flat_input_that_the_removed_output_had():
    layers = {"conv": conv(20), "pool": tl.Pool2d(), "flatten": tl.Flatten(), "out": tl.Output(10)}
    old = in_a_row((1, 28, 28), layers, updater=tl.Sgd(0.1))
    net = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.AdaGrad(0.01), seed=1))
        .remove_output_layer()
        .add_layer("norm", tl.BatchNorm())
        .add_layer("new", tl.Output(10))
        .build()
    )
    assert list(net.vertices) == ["conv", "pool", "flatten", "norm", "new"]
    assert net.vertices["norm"].module.num_features == net.vertices["new"].module.in_features == 3380
    assert same(own_weights(net, ["conv"]), own_weights(old, ["conv"]))
    before = weights(net)
    losses = train(net, examples(1, 28, 28, classes=10), fits=3).losses
    assert losses[-1] < losses[0]
    assert moved(net, before) == {"conv", "norm", "new"}
    assert not torch.equal(net.state_dict()["norm.running_mean"], before["norm.running_mean"])


# -- whole architectures --------------------------------------------------------------------------------------------


def with_200_classes(vgg16):
    tuning = tl.FineTuneConfiguration(updater=tl.Nesterovs(1e-2, 0.9), seed=12345)
    builder = tl.TransferLearning(vgg16).fine_tune_configuration(tuning)
    return builder.remove_vertex_keep_connections("predictions").add_layer("predictions", tl.Output(200), "fc2").build()


def test_n1_vgg16_gets_200_classes_with_nothing_frozen_and_a_softmax_by_default():
    with torch.device("meta"):  # shapes suffice; the weights would take half a gigabyte
        net = with_200_classes(tl.zoo.load("vgg16", weights=None))
    assert net.frozen == frozenset()
    head = net.vertices["predictions"].module
    assert (head.in_features, head.out_features) == (4096, 200)
    assert isinstance(head.activation, nn.Softmax)
    assert head.loss == "negative_log_likelihood"
    assert net.output_shapes()["block5_pool"] == (512, 7, 7)
    assert net.summary().trainable == net.summary().total == 138_357_544 - 800 * 4097


def test_n1_every_layer_of_vgg16s_structure_learns_when_nothing_is_frozen():
    net = with_200_classes(narrow_vgg16())
    before = weights(net)
    train(net, pictures(8, classes=200), fits=2)
    assert moved(net, before) == trained_vertices(net)
    assert torch.allclose(net(pictures(2)[0]).sum(1), torch.ones(2))


def test_n1_lenets_output_gets_another_width_drawn_from_the_configurations_seed():
    layers = {
        "conv1": conv(5, 5),
        "pool1": tl.Pool2d(),
        "conv2": conv(8, 5),
        "pool2": tl.Pool2d(),
        "flatten": tl.Flatten(),
        "ffn1": relu(30),
        "output": tl.Output(26),
    }
    old = in_a_row((1, 28, 28), layers, updater=tl.Sgd(0.1))

    def with_10_classes(seed):
        builder = tl.TransferLearning(old).fine_tune_configuration(tl.FineTuneConfiguration(seed=seed))
        return builder.n_out_replace(-1, 10, "xavier").build()

    net = with_10_classes(12345)
    assert moved(with_10_classes(12345), weights(net)) == set()
    assert moved(with_10_classes(1), weights(net)) == {"output"}
    kept = trained_vertices(net) - {"output"}
    assert same(own_weights(net, kept), own_weights(old, kept))
    train(net, examples(1, 28, 28, classes=10))
    assert net(examples(1, 28, 28)[0]).shape == (10, 10)


# -- imported networks without a loss -------------------------------------------------------------------------------


def test_k1_a_loss_layer_behind_an_imported_network_with_an_updater_that_does_nothing_leaves_it_as_it_is():
    """DL4J's NoOp updater is a learning rate of zero; dropOut(0) removes dropout here too."""
    with seeded(1):
        module = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 3)).eval()
    imported = tl.Network.from_module(module, [torch.zeros(1, 4)])
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.0), dropout=0)
    net = tl.TransferLearning(imported).fine_tune_configuration(tuning).add_layer("loss", tl.Loss()).build()
    x, y = examples(4)
    raw = module(x)
    assert torch.allclose(net(x), raw.softmax(1), atol=1e-6)
    before = weights(net)
    assert train(net, (x, y)).losses == [pytest.approx(F.cross_entropy(raw, y).item(), rel=1e-5)]
    assert moved(net, before) == set()
    assert all(getattr(vertex.module, "dropout", None) is None for vertex in net.vertices.values())


def residual():
    """A small ResNet; its last vertex is a linear layer without a loss, as in networks of the zoo."""
    with seeded(1):
        module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=10)
    return module, tl.Network.from_module(module, [torch.zeros(1, 3, 32, 32)])


def test_z1_a_resnet_trains_only_once_its_last_layer_is_replaced_by_an_output_on_its_flat_features():
    _, old = residual()
    with pytest.raises(ValueError, match=r"output 'fc' .* has no loss to train on"):
        train(old, pictures())
    flat = old.vertices["fc"].inputs
    builder = tl.TransferLearning(old).fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.1), seed=1))
    net = builder.remove_vertex_keep_connections("fc").add_layer("fc", tl.Output(5), *flat).build()
    before = weights(net)
    train(net, pictures())
    assert moved(net, before) == trained_vertices(net)


def test_z1_a_loss_layer_behind_a_resnets_last_layer_trains_its_weights_on():
    module, old = residual()
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.1), seed=1)
    builder = tl.TransferLearning(old).fine_tune_configuration(tuning).add_layer("loss", tl.Loss(), "fc")
    net = builder.set_outputs("loss").build()
    x, y = pictures()
    assert torch.allclose(net(x), module.eval()(x).softmax(1), atol=1e-5)

    by_hand = copy.deepcopy(module).train()
    F.cross_entropy(by_hand(x), y).backward()
    before = weights(net)
    train(net, (x, y))
    assert moved(net, before) == trained_vertices(net)
    step = before["fc.weight"] - 0.1 * by_hand.fc.weight.grad
    assert furthest({"fc.weight": net.state_dict()["fc.weight"]}, {"fc.weight": step}) <= 1e-5


@pytest.mark.parametrize("name", ["resnet50", "squeezenet1_1", "vgg19"])
def test_z1_networks_of_the_zoo_answer_with_a_thousand_classes(name):
    with torch.device("meta"):
        net = tl.zoo.load(name, weights=None)
    assert [net.output_shapes()[output] for output in net.outputs] == [(1000,)]
