from __future__ import annotations

import pytest
import torch
from torch import nn

from tlkit.layers.activations import ACTIVATIONS, check_activation, is_activation, make_activation


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "identity"])
def test_every_name_gives_a_new_activation(name):
    module = make_activation(name)
    assert is_activation(module)
    assert module is not make_activation(name)
    x = torch.randn(3, 4)
    assert module(x).shape == x.shape
    assert not torch.equal(module(x), x)


def test_softmax_is_over_the_classes():
    assert torch.allclose(make_activation("softmax")(torch.randn(3, 4)).sum(1), torch.ones(3))


@pytest.mark.parametrize("name", [None, "identity", "IDENTITY"])
def test_identity_is_no_module(name):
    assert make_activation(name) is None


@pytest.mark.parametrize(("given", "known"), [("RELU", "relu"), ("LeakyReLU", "leaky_relu"), ("hardtanh", "hard_tanh")])
def test_names_are_read_in_any_spelling(given, known):
    assert check_activation(given) == known


def test_unknown_names_list_near_misses():
    with pytest.raises(ValueError, match=r"activation is one of relu, .*got 'sigmod'\. Did you mean 'sigmoid'"):
        check_activation("sigmod")


def test_layers_are_no_activations():
    assert is_activation(nn.PReLU())
    assert not any(map(is_activation, (nn.Linear(1, 1), nn.Identity(), nn.Dropout(), nn.BatchNorm1d(1), None)))
