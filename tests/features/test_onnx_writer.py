"""Networks written as ONNX by hand answer as they are, and what is not known is refused."""

from __future__ import annotations

import pytest
import torch
from nets import seeded
from torch import nn

import tlkit as tl
from tlkit.features.onnx_writer import UnknownLayerError, write_onnx

onnxruntime = pytest.importorskip("onnxruntime")


def from_layers(*layers: nn.Module, size: int = 9) -> tl.Network:
    with seeded(0):
        return tl.Network.from_module(nn.Sequential(*layers).eval(), torch.zeros(1, 3, size, size), granularity="layer")


def differs(net: tl.Network, rows: int = 3) -> float:
    """Return how far the file's answers are from the network's, as a share of the largest."""
    (shape,) = net.input_shapes.values()
    with seeded(1), torch.no_grad():
        x = torch.randn(rows, *shape)
        expected = net(x)
    session = onnxruntime.InferenceSession(write_onnx(net, rows), providers=["CPUExecutionProvider"])
    (found,) = session.run(list(net.outputs), {net.inputs[0]: x.numpy()})
    assert found.shape == tuple(expected.shape)
    return float((torch.from_numpy(found) - expected).abs().max() / expected.abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v3_small", "efficientnet_b0", "squeezenet1_1", "timm/tf_efficientnet_lite0"]
)
def test_networks_of_the_zoo_answer_the_same(name):
    with seeded(0):
        net = tl.zoo.load(name, weights=None).eval()
    front, _ = net.freeze(net.landmarks.penultimate).split()
    assert differs(tl.Network(front.vertices, front.input_shapes, front.outputs), 2) < 1e-5


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 6, (3, 1), stride=2, padding=(1, 0), dilation=(2, 1), groups=3, bias=False),
        nn.MaxPool2d(3, 2, 1, ceil_mode=True),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(3, 3, ceil_mode=True),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d(9),
        nn.BatchNorm2d(3, affine=False),
        nn.SiLU(),
        nn.Hardswish(),
        nn.Hardsigmoid(),
        nn.Hardtanh(-0.5, 0.3),
        nn.ReLU6(),
        nn.LeakyReLU(0.3),
        nn.Tanh(),
        nn.Dropout(0.5),
    ],
    ids=str,
)
def test_each_layer_answers_the_same(layer):
    net = from_layers(nn.Conv2d(3, 3, 1), layer)
    with seeded(2), torch.no_grad():
        for part in net.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 2)
    assert differs(net) < 1e-5


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (nn.Softmax(1), "Softmax is not known here"),
        (nn.AdaptiveAvgPool2d(4), r"pooling from \(9, 9\) to \(4, 4\) is not known"),
        (nn.AvgPool2d(2, ceil_mode=True), "average pooling with a divisor, or over incomplete windows"),
        (nn.AvgPool2d(3, divisor_override=2), "average pooling with a divisor"),
        (nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), "its padding"),
        (nn.Linear(9, 4), "more than one row an image"),
        (nn.Flatten(2), "flattening some dimensions only"),
        (nn.BatchNorm2d(3, track_running_stats=False), "without running statistics"),
    ],
    ids=str,
)
def test_what_is_not_known_is_refused(layer, reason):
    with pytest.raises(UnknownLayerError, match=reason):
        write_onnx(from_layers(nn.Conv2d(3, 3, 1), layer), 2)
