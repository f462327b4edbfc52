"""Rows M: DL4J's builder for chains of layers (TransferLearningMLNTest)."""

from __future__ import annotations

import pytest
import torch
from nets import furthest, moved, weights
from torch import nn
from yardstick import (
    Attention,
    assert_same_weights,
    assert_trains_alike,
    configuration,
    conv,
    differing,
    examples,
    in_a_row,
    numbered,
    own_weights,
    relu,
    same,
    shapes,
    take_weights,
    tanh,
    train,
)

import tlkit as tl


def test_m1_a_configuration_overrides_every_layers_updater_and_trains_like_a_net_built_with_it():
    old = in_a_row((4,), numbered(tanh(5), tl.Output(3)), updater=tl.Sgd(0.1))
    tuning = tl.FineTuneConfiguration(updater=tl.RmsProp(0.5), l2=0.4)
    net = tl.TransferLearning(old).fine_tune_configuration(tuning).build()
    assert furthest(weights(net), weights(old)) == 0
    assert {vertex.settings.updater for vertex in net.vertices.values()} == {tl.RmsProp(0.5)}

    expected = in_a_row((4,), numbered(tanh(5), tl.Output(3)), updater=tl.RmsProp(0.5), l2=0.4)
    assert configuration(net) == configuration(expected)
    assert_trains_alike(net, expected, examples(4))


def test_m2_new_widths_redraw_a_layer_and_the_next_one_each_by_its_own_scheme():
    """Upstream's net declares 4 to 5 followed by a layer of 3 inputs; here too the edit is what makes it run."""
    with pytest.raises(RuntimeError, match=r"Vertex '1' .* cannot take an input of shape"):
        mismatched(5)(examples(40)[0])
    old = mismatched(5)
    net = (
        tl.TransferLearning(old)
        .n_out_replace(3, 200, "xavier", "xavier")
        .n_out_replace(0, 300, "xavier", tl.Normal(1, 0.1))
        .build()
    )
    first, second, third, fourth = (vertex.module.weight for vertex in net.vertices.values())
    assert first.std().item() == pytest.approx((2 / (40 + 300)) ** 0.5, rel=0.1)
    assert second.mean().item() == pytest.approx(1, abs=0.02)
    assert second.std().item() == pytest.approx(0.1, rel=0.1)
    assert fourth.std().item() == pytest.approx((2 / (30 + 200)) ** 0.5, rel=0.1)
    assert torch.equal(third, old.vertices["2"].module.weight)

    expected = in_a_row((40,), numbered(tanh(300), tanh(20), tanh(30), tl.Output(200)), updater=tl.Sgd(0.1))
    assert shapes(net) == shapes(expected)
    assert net.summary().total == expected.summary().total
    assert_trains_alike(net, take_weights(expected, net), examples(40, classes=7))


def mismatched(width):
    """Layers of 40 to `width`, 3 to 20, 20 to 30 and 30 to 30."""
    whole = in_a_row((40,), numbered(tanh(3), tanh(20), tanh(30), tl.Output(30)), updater=tl.Sgd(0.1))
    first = tanh(width).make((40,))
    vertices = whole.vertices | {"0": tl.Vertex(first, "in", whole.vertices["0"].settings)}
    return tl.Network(vertices, whole.input_shapes, whole.outputs)


def test_m3_a_new_last_layer_trains_with_its_own_updater_behind_two_replaced_widths():
    old = in_a_row((4,), numbered(tanh(5), tanh(6), tanh(7), tl.Output(3)), updater=tl.Sgd(0.1))
    net = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.2), seed=0))
        .n_out_replace(0, 7, "xavier", "xavier")
        .n_out_replace(2, 5, "xavier")
        .remove_output_layer()
        .add_layer("3", tl.Output(3, updater=tl.Sgd(0.5)))
        .build()
    )
    layers = numbered(tanh(7), tanh(6), tanh(5), tl.Output(3, updater=tl.Sgd(0.5)))
    expected = in_a_row((4,), layers, updater=tl.Sgd(0.2))
    assert configuration(net) == configuration(expected)
    assert shapes(net) == shapes(expected)
    assert_trains_alike(net, take_weights(expected, net), examples(4))


def test_m4_new_layers_behind_a_kept_one_follow_their_own_options_then_the_configuration():
    """DL4J's preprocessors at an index are vertices here: a Flatten between convolution and dense layer."""
    layers = numbered(conv(4), tl.Pool2d(), conv(6), tl.Pool2d(), tl.Flatten(), relu(9), tl.Output(5))
    old = in_a_row((1, 18, 18), layers, updater=tl.Sgd(0.1))
    own = {"updater": tl.Sgd(0.3), "gradient_normalization": "clip_value", "gradient_normalization_threshold": 0.5}
    new = {
        "pool": tl.Pool2d(),
        "conv": conv(5, **own),
        "flatten": tl.Flatten(),
        "dense": tanh(8, gradient_normalization="renormalize_per_layer", l2=0.5),
        "out": tl.Output(3, gradient_normalization="clip_norm_per_layer"),
    }
    tuning = tl.FineTuneConfiguration(updater=tl.AdaGrad(0.05), l2=0.1, seed=0)
    builder = tl.TransferLearning(old).fine_tune_configuration(tuning).remove_layers_from_output(6)
    for name, layer in new.items():
        builder.add_layer(name, layer)
    net = builder.build()

    expected = in_a_row((1, 18, 18), {"0": conv(4), **new}, updater=tl.AdaGrad(0.05), l2=0.1)
    assert configuration(net) == configuration(expected)
    assert (net.vertices["0"].settings.updater, net.vertices["0"].settings.l2) == (tl.AdaGrad(0.05), 0.1)
    assert (net.vertices["conv"].settings.updater, net.vertices["dense"].settings.l2) == (tl.Sgd(0.3), 0.5)
    assert same(own_weights(net, ["0"]), own_weights(old, ["0"]))
    assert_trains_alike(net, take_weights(expected, net), examples(1, 18, 18))


CONVOLUTIONS = {"conv0": conv(4, 5), "pool1": tl.Pool2d()}


def convolutional():
    """Two convolutions with pooling, and dense layers behind."""
    rest = {"conv2": conv(6, 5), "pool3": tl.Pool2d(), "flatten": tl.Flatten()}
    head = {"dense4": relu(20), "dense5": relu(12), "out": tl.Output(10)}
    return in_a_row((1, 20, 20), CONVOLUTIONS | rest | head, updater=tl.Sgd(0.1))


def assert_trains_like_its_tail(net, old, tail, fits):
    """Training the net is training a tail, made by hand, on what its frozen part says of the data."""
    assert net.frozen == {"conv0", "pool1"}
    x, y = examples(1, 20, 20, classes=10)
    with torch.no_grad():
        features = old.vertices["pool1"].module(old.vertices["conv0"].module(x))
    before = weights(net)
    take_weights(tail, net)
    train(net, (x, y), fits)
    train(tail, (features, y), fits)
    assert moved(net, before) == {name for name in net.vertices if name.startswith(("conv2", "dense", "out"))}
    assert_same_weights(net, tail)
    assert same(own_weights(net, ["conv0"]), own_weights(old, ["conv0"]))


def test_m5_the_layers_behind_a_frozen_convolution_train_as_on_its_stored_answers():
    """An index counts the layers of the original; a flatten, a preprocessor in DL4J, counts as one."""
    old = convolutional()
    builder = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.2), seed=0))
        .set_feature_extractor(1)
        .n_out_replace(5, 24, "xavier")
        .remove_layers_from_output(2)
    )
    new = {"dense6": relu(16), "dense7": relu(12), "dense8": relu(8), "out9": tl.Output(10)}
    for name, layer in new.items():
        builder.add_layer(name, layer)
    net = builder.build()
    kept = {"conv2": conv(6, 5), "pool3": tl.Pool2d(), "flatten": tl.Flatten(), "dense4": relu(24)}
    tail = in_a_row((4, 8, 8), kept | new, updater=tl.Sgd(0.2))
    assert_trains_like_its_tail(net, old, tail, fits=3)


def test_m6_a_new_stack_right_behind_a_frozen_pool_trains_as_on_its_stored_answers():
    """DL4J sets a preprocessor at index 2; here a Flatten is added like any other vertex."""
    old = convolutional()
    new = {"flat": tl.Flatten(), "dense2": relu(16), "dense3": relu(12), "dense4": relu(8), "out5": tl.Output(10)}
    tuning = tl.FineTuneConfiguration(updater=tl.Sgd(0.2), seed=0)
    builder = tl.TransferLearning(old).fine_tune_configuration(tuning)
    builder.set_feature_extractor(1).remove_layers_from_output(6)
    for name, layer in new.items():
        builder.add_layer(name, layer)
    assert_trains_like_its_tail(builder.build(), old, in_a_row((4, 8, 8), new, updater=tl.Sgd(0.2)), fits=3)


def test_m7_only_the_given_fields_change_and_the_original_is_untouched():
    """DL4J's option of the whole network here is its backprop type; tlkit's is the seed."""
    options = {"updater": tl.Adam(1e-4), "l1": 0.3, "l2": 0.6, "gradient_normalization": "clip_value"}
    old = in_a_row((4,), numbered(tanh(5, dropout=0.25), tl.Output(3)), **options, seed=1)
    before, values = configuration(old), weights(old)
    tuning = tl.FineTuneConfiguration(updater=tl.RmsProp(0.1), seed=7)
    net = tl.TransferLearning(old).fine_tune_configuration(tuning).build()

    changed = options | {"updater": tl.RmsProp(0.1)}
    expected = in_a_row((4,), numbered(tanh(5, dropout=0.25), tl.Output(3)), **changed)
    assert configuration(net) == configuration(expected)
    for name, vertex in net.vertices.items():
        assert differing(vertex.settings, old.vertices[name].settings) == {"updater"}
    assert net.seed == 7

    train(net, examples(4))
    assert configuration(old) == before
    assert same(weights(old), values)
    assert old.seed == 1


def test_m8_zero_and_none_remove_dropout_weight_noise_constraints_and_l2():
    plain = in_a_row((4,), numbered(tanh(5), tanh(6), tl.Output(3)), updater=tl.Sgd(0.1))
    there = {"dropout": 0.5, "weight_noise": tl.DropConnect(0.5), "constraints": tl.UnitNorm(), "l2": 0.5}
    gone = {"dropout": 0, "weight_noise": None, "constraints": None, "l2": 0}
    old = tl.TransferLearning(plain).fine_tune_configuration(tl.FineTuneConfiguration(**there)).build()
    net = tl.TransferLearning(old).fine_tune_configuration(tl.FineTuneConfiguration(**gone)).build()
    assert configuration(net) == configuration(plain)
    assert configuration(old) != configuration(plain)

    kept = {}
    for option in there:
        others = {name: value for name, value in gone.items() if name != option}
        builder = tl.TransferLearning(old).fine_tune_configuration(tl.FineTuneConfiguration(**others))
        kept[option] = builder.build()
    data = examples(4)
    assert_trains_alike(net, plain, data)
    for option, partly in kept.items():
        assert configuration(partly) != configuration(plain), option
        train(partly, data, fits=3)
        assert furthest(weights(partly), weights(plain)) > 1e-3, f"{option} still acts where it was not removed"


def three_convolutions():
    layers = numbered(conv(20), conv(10), conv(30), tl.Flatten(), tl.Output(5))
    return in_a_row((1, 12, 12), layers, updater=tl.Sgd(0.1))


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["down", "up"])
def test_m9_new_widths_of_consecutive_convolutions_compose_in_either_order(order):
    """In DL4J's graphs the edit nearer to the output must come last; here the order of calls does not matter."""
    old = three_convolutions()
    widths = {0: 7, 1: 25}
    builder = tl.TransferLearning(old)
    for index in order:
        builder.n_out_replace(index, widths[index], "relu")
    net = builder.build()
    second, third = net.vertices["1"].module, net.vertices["2"].module
    assert (second.in_channels, second.out_channels, third.in_channels, third.out_channels) == (7, 25, 25, 30)
    x, y = examples(1, 12, 12, classes=5)
    assert net(x).shape == (10, 5)
    assert len(train(net, (x, y), fits=2).losses) == 2


def test_m10_a_new_width_reaches_the_next_convolution_across_a_pooling_layer():
    """DL4J stops at the pooling layer and needs n_in_replace behind it; here that call adds nothing."""
    layers = numbered(conv(20), tl.Pool2d(), conv(30), tl.Flatten(), tl.Output(5))
    old = in_a_row((1, 12, 12), layers, updater=tl.Sgd(0.1))
    both = tl.TransferLearning(old).n_out_replace(0, 5, "xavier").n_in_replace(2, 5, "xavier").build()
    alone = tl.TransferLearning(old).n_out_replace(0, 5, "xavier", "xavier").build()
    for net in (both, alone):
        assert net.vertices["0"].module.out_channels == net.vertices["2"].module.in_channels == 5
        assert net.vertices["2"].module.out_channels == 30
        assert same(own_weights(net, ["4"]), own_weights(old, ["4"]))
        assert net(examples(1, 12, 12)[0]).shape == (10, 5)
    with pytest.raises(ValueError, match="n_in_replace gives it 6 inputs, but what it reads has 5"):
        tl.TransferLearning(old).n_out_replace(0, 5).n_in_replace(2, 6).build()


def test_m11_the_weights_of_an_attention_layer_survive_a_new_output_layer():
    """SameDiff's counterpart, a layer of one's own, is an ordinary torch module here; upstream's test is disabled."""
    attention = Attention(6)
    old = in_a_row((5, 6), {"first": relu(6), "attention": attention, "out": tl.Output(4)}, updater=tl.Sgd(0.1))
    net = tl.TransferLearning(old).remove_output_layer().add_layer("new", tl.Output(3, updater=tl.Sgd(0.1))).build()
    assert same(own_weights(net, ["first", "attention"]), own_weights(old, ["first", "attention"]))
    assert isinstance(net.vertices["attention"].module.attention, nn.MultiheadAttention)
    before = weights(net)
    train(net, examples(5, 6))
    assert moved(net, before) == {"first", "attention", "new"}
