"""The faster form of the frozen part says what the frozen part says."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tlkit as tl
from tlkit.features.folding import fold
from tlkit.layers.modules import NORMS


def frozen_part(name: str) -> tl.Network:
    torch.manual_seed(0)
    net = tl.zoo.load(name, weights=None)
    for part in net.modules():
        if isinstance(part, NORMS):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    return net.freeze(net.landmarks.penultimate).split()[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet18", "googlenet", "densenet121", "mobilenet_v3_small"])
def test_the_folded_network_says_the_same_and_the_original_is_left_alone(name: str) -> None:
    plain = frozen_part(name)
    before = {key: value.clone() for key, value in plain.state_dict().items()}
    images = torch.randint(0, 256, (5, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        found, expected = fold(plain)(images), plain(images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * max(1.0, float(expected.abs().max())))
    assert all(torch.equal(value, before[key]) for key, value in plain.state_dict().items())
    assert all(value.is_contiguous() for value in plain.state_dict().values())


@pytest.mark.slow
def test_no_batch_normalization_is_left_where_it_follows_a_convolution() -> None:
    kinds = [type(part) for part in fold(frozen_part("resnet18")).modules()]
    assert not any(issubclass(kind, nn.BatchNorm2d) for kind in kinds)


def test_a_convolution_that_another_layer_reads_keeps_its_batch_normalization() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 4, 1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.convolution(x)
            return self.norm(y) + y

    module = nn.Sequential(Twice(), nn.Conv2d(4, 2, 1), nn.Conv2d(2, 2, 1))
    module[0].norm.running_mean.fill_(3)
    net = tl.Network.from_module(module, [torch.zeros(1, 3, 8, 8)]).freeze("1")
    images = torch.randn(4, 3, 8, 8)
    plain = net.split()[0]
    with torch.no_grad():
        torch.testing.assert_close(fold(plain)(images), plain(images))


def test_large_linear_layers_are_shared_and_not_copied() -> None:
    with torch.device("meta"):
        plain = tl.zoo.load("vgg16", weights=None).freeze("fc2").split()[0]
        fast = fold(plain)
    assert fast.vertices["fc1"].module is plain.vertices["fc1"].module
    assert fast.vertices["block1_conv1"].module is not plain.vertices["block1_conv1"].module
