from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
import torch
from nets import seeded
from torch import nn

import tlkit as tl
from tlkit.layers.initializers import make_generator
from tlkit.layers.modules import (
    Layer,
    OutputLayer,
    as_layer,
    draw_weights,
    is_depthwise,
    is_transparent,
    is_weight_layer,
    resize,
)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.Linear(4, 3), torch.randn(2, 4)),
        (nn.Conv1d(4, 3, 2), torch.randn(2, 4, 5)),
        (nn.Conv2d(4, 3, 2, bias=False), torch.randn(2, 4, 5, 5)),
        (nn.Conv3d(4, 3, 2), torch.randn(2, 4, 3, 3, 3)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_layer_computes_dropout_weights_norm_and_activation_in_this_order(module, x):
    kind, bare = type(module), copy.deepcopy(module)
    layer = as_layer(module)
    assert layer is module
    assert isinstance(layer, Layer)
    assert isinstance(layer, kind)
    assert type(layer).__name__ == kind.__name__
    assert torch.equal(layer(x), bare(x))
    assert list(layer.state_dict()) == list(bare.state_dict())

    layer.dropout, layer.norm, layer.activation = nn.Dropout(0.5), nn.InstanceNorm1d(3), nn.Tanh()
    if isinstance(module, nn.Linear):
        layer.norm = nn.BatchNorm1d(3)
    elif x.ndim > 3:
        layer.norm = {4: nn.InstanceNorm2d, 5: nn.InstanceNorm3d}[x.ndim](3)
    layer.eval()
    expected = layer.norm(bare(x))
    assert torch.equal(layer.preactivation(x), expected)
    assert torch.equal(layer(x), expected.tanh())
    layer.train()
    with seeded(4):
        found = layer(x)
    with seeded(4):
        assert torch.equal(found, layer.norm(bare(layer.dropout(x))).tanh())


def test_a_layer_is_made_once():
    layer = as_layer(nn.Linear(2, 2))
    layer.activation = nn.ReLU()
    assert as_layer(layer).activation is layer.activation
    assert type(as_layer(nn.Linear(2, 2))) is type(layer)


@pytest.mark.parametrize("description", [tl.Dense(3, activation="relu", dropout=0.5), tl.Output(3)])
def test_layers_are_copied_and_pickled(description):
    layer = description.make((4,)).eval()
    x = 1 + torch.rand(2, 4)  # so that a unit whose weights grow passes its ReLU
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(other) is type(layer)
        assert torch.equal(other(x), layer(x))
        assert repr(other) == repr(layer)
        with torch.no_grad():
            other.weight[0].add_(1)  # all of them alike would leave a softmax as it is
        assert not torch.equal(other(x), layer(x))


def test_kinds_of_modules_are_told_apart():
    dense, conv = as_layer(nn.Linear(4, 4)), as_layer(nn.Conv2d(4, 4, 3))
    depthwise, grouped = as_layer(nn.Conv2d(4, 4, 3, groups=4)), as_layer(nn.Conv2d(4, 4, 3, groups=2))
    assert all(map(is_weight_layer, (dense, conv, depthwise, grouped)))
    assert not any(map(is_weight_layer, (nn.Linear(4, 4), nn.ReLU(), nn.Sequential(dense))))
    assert is_depthwise(depthwise)
    assert not any(map(is_depthwise, (dense, conv, grouped, nn.ReLU())))
    through = (depthwise, nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.BatchNorm2d(4))
    assert all(map(is_transparent, through))
    assert not any(map(is_transparent, (dense, conv, grouped, nn.LayerNorm(4), nn.Sequential(nn.Conv2d(1, 1, 1)))))


def test_a_resized_layer_keeps_its_form_and_what_belongs_to_it():
    layer = as_layer(
        nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=2, bias=False, padding_mode="reflect")
    ).double()
    layer.dropout, layer.activation = nn.Dropout(0.3), nn.ReLU()
    layer.norm = nn.BatchNorm2d(6, eps=0.01, momentum=0.3).double()
    new = resize(layer, n_out=8)
    for name in ("in_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode"):
        assert getattr(new, name) == getattr(layer, name)
    assert new.weight.shape == (8, 4, 3, 5)
    assert new.weight.dtype == torch.float64
    assert new.bias is None
    assert (new.norm.num_features, new.norm.eps, new.norm.momentum) == (8, 0.01, 0.3)
    assert new.dropout.p == 0.3
    assert isinstance(new.activation, nn.ReLU)
    assert layer.weight.shape == (6, 4, 3, 5)
    assert new.eval()(torch.randn(1, 4, 9, 9).double()).shape[1] == 8


def test_a_resized_output_keeps_its_loss():
    layer = tl.Output(3, loss="mean_squared_error").make((4,))
    new = resize(layer, n_in=7, n_out=2)
    assert isinstance(new, OutputLayer)
    assert new.loss == "mean_squared_error"
    assert new.weight.shape == (2, 7)


def test_a_depthwise_layer_follows_its_input():
    layer = as_layer(nn.Conv2d(4, 4, 3, groups=4))
    new = resize(layer, n_in=6)
    assert (new.in_channels, new.out_channels, new.groups) == (6, 6, 6)


def test_groups_must_divide_the_new_width():
    layer = as_layer(nn.Conv2d(4, 6, 3, groups=2))
    assert resize(layer, n_out=8).groups == 2
    with pytest.raises(ValueError, match="2 groups needs inputs and outputs divisible by it, got 4 and 5"):
        resize(layer, n_out=5)


def test_weights_are_drawn_by_scheme_and_biases_by_value():
    layer = nn.Linear(50, 60).requires_grad_(False)
    draw_weights(layer, "ones", 0.5, make_generator(1, "a"))
    assert (layer.weight == 1).all()
    assert (layer.bias == 0.5).all()
    draw_weights(layer, None, None, make_generator(1, "a"))
    assert not layer.bias.any()
    assert float(layer.weight.var()) == pytest.approx(2 / 110, rel=0.1)
    without = nn.Linear(5, 6, bias=False)
    draw_weights(without, "ones", 0.5, make_generator(1, "a"))
    assert without.bias is None


@pytest.mark.parametrize(("description", "shape"), [(tl.Dense(3), (4,)), (tl.Conv2d(3, padding=1), (2, 5, 5))])
def test_dropped_weights_are_noise_while_training_only(description, shape):
    layer = dataclasses.replace(description, weight_noise=tl.DropConnect(0.5)).make(shape)
    x = torch.randn(6, *shape)
    plain = layer.torch_class.forward(layer, x)
    assert torch.equal(layer.eval()(x), plain)
    noisy = layer.train()
    with seeded(0):
        first = noisy(x)
        second = noisy(x)
    assert not torch.equal(first, plain)
    assert not torch.equal(first, second)
    with seeded(0):
        assert torch.equal(noisy(x), first)


def test_dropped_weights_keep_their_mean_and_get_no_gradient():
    layer = tl.Dense(1, weight_noise=tl.DropConnect(0.75)).make((400,)).train()
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.zero_()
    layer(torch.ones(1, 400)).sum().backward()
    kept = layer.weight.grad != 0
    assert 50 < int(kept.sum()) < 150
    assert torch.equal(layer.weight.grad[kept], torch.full((int(kept.sum()),), 4.0))


def test_combinations_compute_what_they_say():
    a, b, c = torch.randn(3, 2, 4).unbind()
    expected = {
        "add": a + b + c, "subtract": a - b - c, "product": a * b * c, "average": (a + b + c) / 3,
        "max": torch.stack([a, b, c]).amax(0),
    }  # fmt: skip
    for name, value in expected.items():
        assert torch.allclose(tl.ElementWise(name).make((4,))(a, b, c), value)
    assert torch.equal(tl.Merge().make((4,))(a, b), torch.cat([a, b], 1))
    assert torch.equal(tl.Subset(1, 3).make((4,))(a), a[:, 1:3])
    images = torch.randn(2, 3, 4, 4)
    assert torch.allclose(tl.GlobalPool().make((3, 4, 4))(images), images.mean((2, 3)), atol=1e-6)
    assert torch.equal(tl.GlobalPool("max").make((3, 4, 4))(images), images.amax((2, 3)))


def test_the_weight_of_a_loss_is_its_factor():
    heavy, light = tl.Loss(loss_weight=2.5).make((3,)), tl.Loss().make((3,))
    raw, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    assert torch.equal(heavy.compute_loss(raw, labels), 2.5 * light.compute_loss(raw, labels))
