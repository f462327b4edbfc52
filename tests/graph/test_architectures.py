"""Freeze, split, replace the head and train on features, at the cut points of every kind of network.

test_importing.py compares the values of imported networks with the originals', test_helper.py trains on features at
chosen boundaries of two small networks. Here the boundary goes through the whole of each architecture.
"""

from __future__ import annotations

import copy
import itertools
import zlib
from functools import partial

import pytest
import torch
from nets import furthest, moved, seeded, weights
from torch import Tensor, nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig

import tlkit as tl
from tlkit.graph.importing import take_over

ROWS = 4
STEPS = {"epochs": 2, "batch_size": ROWS, "shuffle": False, "progress": False}  # two steps, each on all rows
NO_INIT = {"init_weights": False}

# name -> pixels, constructor; narrow where the constructor allows it, with every kind of block of the original
TORCHVISION = {
    "resnet18": (32, models.resnet18),
    "resnet50": (32, partial(models.resnet50, width_per_group=8)),
    "densenet": (
        32,
        partial(models.DenseNet, growth_rate=8, block_config=(2, 3, 4, 3), num_init_features=16, drop_rate=0.1),
    ),
    "inception_v3": (75, partial(models.inception_v3, aux_logits=True, **NO_INIT)),
    "googlenet": (32, partial(models.googlenet, aux_logits=True, **NO_INIT)),
    "efficientnet_b0": (32, models.efficientnet_b0),
    "convnext_tiny": (
        32,
        partial(
            models.ConvNeXt,
            [CNBlockConfig(16, 24, 3), CNBlockConfig(24, 32, 3), CNBlockConfig(32, 48, 9), CNBlockConfig(48, None, 3)],
            stochastic_depth_prob=0.2,
        ),
    ),
    "mobilenet_v2": (32, partial(models.mobilenet_v2, width_mult=0.25)),
    "mobilenet_v3_small": (32, models.mobilenet_v3_small),
    "vit": (
        32,
        partial(
            models.VisionTransformer,
            image_size=32,
            patch_size=8,
            num_layers=4,
            num_heads=2,
            hidden_dim=16,
            mlp_dim=32,
            dropout=0.1,
        ),
    ),
    "swin": (
        32,
        partial(
            models.SwinTransformer,
            patch_size=[2, 2],
            embed_dim=8,
            depths=[2, 2, 2],
            num_heads=[1, 2, 4],
            window_size=[4, 4],
            stochastic_depth_prob=0.2,
        ),
    ),
    "regnet_y_400mf": (32, models.regnet_y_400mf),
    "shufflenet_v2_x0_5": (32, models.shufflenet_v2_x0_5),
    "squeezenet1_1": (33, models.squeezenet1_1),
    "mnasnet0_5": (32, models.mnasnet0_5),
}
# name -> pixels; timm's "test_..." networks are narrow ones of each family, the others families of their own
TIMM = {
    **{f"test_{family}": 64 for family in (
        "byobnet", "convnext", "convnext2", "convnext3", "efficientnet", "efficientnet_evos", "efficientnet_gn",
        "efficientnet_ln", "mambaout", "nfnet", "resnet",
    )},
    **{f"test_{family}": 160 for family in ("coatnet", "maxvit", "vit", "vit2", "vit3", "vit4", "vit_relpos")},
    "resnetv2_18": 32, "mobilevit_xxs": 64, "edgenext_xx_small": 64, "levit_128s": 224,
}  # fmt: skip
OPENED = ("resnet18", "swin")  # at the granularity of layers, too
CASES = [
    *((name, "block") for name in (*TORCHVISION, *(f"timm/{name}" for name in TIMM))),
    *((name, "layer") for name in OPENED),
]


def drawn(make) -> nn.Module:
    """Make a module with random weights and batch-norm statistics that keep its activations apart."""
    module = make()
    with torch.no_grad():
        for key, value in itertools.chain(module.named_parameters(), module.named_buffers()):
            if key.endswith("running_var"):
                value.uniform_(0.5, 1.5)
            elif key.endswith("running_mean"):
                value.normal_(0, 0.1)
            elif isinstance(value, nn.Parameter) and value.ndim > 1:
                value.normal_(0, (1.6 / value[0].numel()) ** 0.5)
            elif isinstance(value, nn.Parameter):
                value.normal_(0 if "bias" in key else 1, 0.1)
    return module


def imported(name: str, granularity: str) -> tuple[tl.Network, Tensor]:
    """Return a network of random weights and a batch of images."""
    with seeded(zlib.crc32(name.encode())):
        if name.startswith("timm/"):
            import timm

            pixels = TIMM[name.removeprefix("timm/")]
            make = partial(timm.create_model, name.removeprefix("timm/"))
        else:
            pixels, make = TORCHVISION[name]
        module, x = drawn(make), torch.randn(ROWS, 3, pixels, pixels)
    return take_over(module, x, granularity), x


def with_new_head(net: tl.Network, head: str) -> tl.Network:
    """Replace a network's last weight layer and all behind it by an output of five units."""
    before = net.vertices[head].inputs[0]
    edits = tl.TransferLearning(net).fine_tune_configuration(
        # random statistics fit no data, so they are learned
        tl.FineTuneConfiguration(updater=tl.Nesterovs(0.003, 0.9), seed=3, fixed_statistics=False)
    )
    for name in net.vertices:
        if name not in net.ancestors(before):
            edits.remove_vertex_and_connections(name)
    if len(net.output_shapes()[before]) == 3:
        edits.add_vertex("pool", tl.GlobalPool(), before)
        before = "pool"
    net = edits.add_layer("answer", tl.Output(5), before).set_outputs("answer").build()
    net.classes = ("daisy", "dandelion", "roses", "sunflowers", "tulips")
    return net


def last_weighted(net: tl.Network) -> str:
    return [name for name, v in net.vertices.items() if any(p.ndim > 1 for p in v.module.parameters())][-1]


def spread(items: tuple[str, ...], n: int) -> list[str]:
    """Return n of the items or fewer, the first and the last among them."""
    return list(dict.fromkeys(items[round(place * (len(items) - 1) / (n - 1))] for place in range(n)))


def assert_parts_answer_like_the_whole(net: tl.Network, *boundary: str, x: Tensor | tuple[Tensor, ...]) -> None:
    """Freeze, and compare the frozen part's answers, handed to the other part, with the whole network's."""
    inputs = x if isinstance(x, tuple) else (x,)
    net.unfreeze().freeze(*boundary)
    front, back = net.split()
    assert back.inputs == front.outputs == net.boundary()
    assert set(front.vertices) == net.ancestors(*boundary)
    assert set(back.vertices) == set(net.vertices) - set(front.vertices)
    with torch.no_grad():
        whole, middle = net(*inputs), front(*inputs)
        parts = back(*(middle if isinstance(middle, tuple) else (middle,)))
    for found, expected in zip(*((v if isinstance(v, tuple) else (v,)) for v in (parts, whole)), strict=True):
        assert torch.equal(found, expected)


def assert_features_train_like_images(net: tl.Network, data: object, *boundary: str) -> None:
    """Take the same two steps with the whole network and with its trainable part on features."""
    whole, parts = copy.deepcopy(net), copy.deepcopy(net)
    before = weights(net)
    history = tl.fit(whole.freeze(*boundary), data, **STEPS)
    helper = tl.TransferLearningHelper(parts, *boundary)
    x, labels = data
    featurized = helper.fit_featurized((helper.featurize(x), labels), **STEPS)

    assert featurized.losses == pytest.approx(history.losses, rel=1e-5)  # not met by NaN
    assert len(history.losses) == 2
    assert furthest(weights(whole), weights(parts)) <= 1e-6
    assert not moved(whole, before) & whole.frozen
    trained = {name for name in net.vertices if name not in whole.frozen and [*net.vertices[name].module.parameters()]}
    assert moved(whole, before) == trained


# -- the boundary at every cut point ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "granularity"), CASES)
def test_a_network_splits_at_every_cut_point_and_trains_on_features_of_each(name, granularity, monkeypatch):
    net, x = imported(name, granularity)
    assert len(net.cut_points) >= 3
    with torch.no_grad():
        assert net(x).std() > 1e-3
        assert net(x).isfinite().all()
    shapes = net.output_shapes()
    monkeypatch.setattr(net, "output_shapes", lambda: shapes)  # what is frozen doesn't change them
    for cut in net.cut_points:
        assert_parts_answer_like_the_whole(net, cut, x=x)
        assert net.boundary() == (cut,)

    monkeypatch.undo()
    net = with_new_head(net.unfreeze(), last_weighted(net))
    data = (x, torch.arange(ROWS))
    assert net.frozen == frozenset()
    n = 3 if sum(p.numel() for p in net.parameters()) > 5e6 else 5
    for cut in spread(net.cut_points, n):
        assert_features_train_like_images(net, data, cut)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "timm/test_convnext", "timm/test_vit"])
def test_a_network_of_the_zoo_trains_on_features_of_each_of_its_landmarks(name):
    with seeded(1):
        net = tl.zoo.load(name, weights=None)
        (shape,) = net.input_shapes.values()
        x = torch.randint(256, (ROWS, *shape), dtype=torch.uint8)
    marks = net.landmarks
    net = with_new_head(net, marks.head)
    assert marks.penultimate in net.ancestors("answer")
    for boundary in (marks.fine_tune_from, marks.bottleneck, marks.penultimate):
        assert boundary in net.cut_points
        assert_features_train_like_images(net, (x, torch.arange(ROWS)), boundary)


# -- several boundary tensors -----------------------------------------------------------------------------------------


def two_towers() -> tl.Network:
    """Two inputs whose branches are added and merged, a raw input that joins late, and two outputs."""
    with seeded(4):
        convolution = partial(nn.Conv2d, kernel_size=3, padding=1)
        vertices = {
            "left": tl.Vertex(nn.Sequential(convolution(3, 4), nn.BatchNorm2d(4), nn.ReLU()), ("photo",)),
            "right": tl.Vertex(nn.Sequential(convolution(1, 4), nn.BatchNorm2d(4), nn.Dropout(0.3)), ("depth",)),
            "deeper": tl.Vertex(nn.Sequential(convolution(4, 4), nn.BatchNorm2d(4)), ("right",)),
            "skip": tl.Vertex(nn.MaxPool2d(2), ("left",)),
        }
        net = tl.Network(vertices, {"photo": (3, 8, 8), "depth": (1, 8, 8), "facts": (6,)}, ["skip", "deeper", "facts"])
        return (
            tl.TransferLearning(net)
            .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Nesterovs(0.003, 0.9), seed=3))
            .add_vertex("sum", tl.ElementWise("add"), "left", "deeper")
            .add_vertex("merge", tl.Merge(), "left", "right", "sum")
            .add_layer("mixed", tl.Conv2d(4, kernel_size=2, stride=2, activation="relu"), "merge")
            .add_vertex("again", tl.ElementWise("add"), "mixed", "skip")
            .add_vertex("pooled", tl.GlobalPool(), "again")
            .add_vertex("early", tl.GlobalPool(), "sum")
            .add_layer("hidden", tl.Dense(7, activation="tanh", dropout=0.2), "pooled", "facts")
            .add_layer("kind", tl.Output(5), "hidden")
            .add_layer("size", tl.Output(2, loss="mean_squared_error"), "early", "pooled")
            .set_outputs("kind", "size")
            .build()
        )


def frozen_parts(net: tl.Network) -> list[tuple[str, ...]]:
    """Return every part of a network that can be frozen by boundaries, but none and the whole."""
    found = {frozenset()}
    for name in net.vertices:  # each after its inputs
        found |= {part | {name} for part in found if net.ancestors(name) - {name} <= part}
    parts = (tuple(sorted(part)) for part in found if part and len(part) < len(net.vertices))
    return sorted(parts, key=lambda part: (len(part), part))


PARTS = frozen_parts(two_towers())


def test_every_part_of_a_branching_network_splits():
    net = two_towers()
    with seeded(5):
        x = torch.randn(ROWS, 3, 8, 8), torch.randn(ROWS, 1, 8, 8), torch.randn(ROWS, 6)
    assert len(PARTS) > 30
    counts = set()
    for part in PARTS:
        assert_parts_answer_like_the_whole(net, *part, x=x)
        assert net.frozen == set(part)
        counts.add(len(net.boundary()))
    assert counts >= {2, 3, 4, 5}, "boundaries of two tensors and of more were among them"


@pytest.mark.parametrize("part", [part for part in PARTS if not {"kind", "size"} & set(part)], ids="-".join)
def test_a_branching_network_trains_on_features_of_several_boundary_tensors(part):
    net = two_towers()
    with seeded(5):
        x = {"photo": torch.randn(ROWS, 3, 8, 8), "depth": torch.randn(ROWS, 1, 8, 8), "facts": torch.randn(ROWS, 6)}
        labels = {"kind": torch.arange(ROWS), "size": torch.randn(ROWS, 2)}
    assert_features_train_like_images(net, (x, labels), *part)
