from __future__ import annotations

import copy
import itertools
import os
import pickle
import re
import zlib
from pathlib import Path

import pytest
import torch
from nets import blobs, furthest, seeded, weights
from torch import nn
from torch.nn import functional as F
from torchvision import models

import tlkit as tl
from tlkit.graph.importing import from_module
from tlkit.layers.modules import Layer

# -- every classification network of torchvision --------------------------------------------------------------------

# networks whose values are not compared, and why; test_zoo.py checks their structure
TOO_LARGE = {
    "regnet_y_128gf": "2.6 GB of weights",
    "vit_h_14": "2.5 GB of weights",
    "vit_l_16": "1.2 GB of weights, the layers of vit_b_16",
    "vit_l_32": "1.2 GB of weights, the layers of vit_b_32",
}
# pixels that a network needs where 64 are not enough
PIXELS = {"inception_v3": 96, "maxvit_t": 224, "vit_b_16": 224, "vit_b_32": 224}
TORCHVISION = models.list_models(module=models)
# deeper or wider ones of networks that are compared, with the same layers; they take a minute (TLKIT_TEST_SLOW=1)
SIBLINGS = re.compile(
    r"convnext_(small|base|large)|densenet(161|169|201)|efficientnet_(b[1-7]|v2_[ml])|mnasnet(0_75|1_3)"
    r"|regnet_[xy]_(800mf|\d.*gf)|resnet(34|101|152)|resnext101.*|shufflenet_v2_x(1_0|1_5|2_0)|swin_(v2_)?[sb]"
    r"|vgg(11|13|19)(_bn)?|wide_resnet101_2"
)
OPENED = ("resnet18", "mobilenet_v2", "efficientnet_b0", "vit_b_32", "swin_t", "convnext_tiny", "densenet121")


@pytest.fixture
def undrawn(monkeypatch):
    """Make constructors leave their weights undrawn, which takes most of their time."""
    for name in [name for name in dir(nn.init) if name.endswith("_") and not name.startswith("_")]:
        monkeypatch.setattr(nn.init, name, lambda tensor, *args, **kwargs: tensor)


def original(name: str) -> nn.Module:
    """One of torchvision's networks with weights and batch-norm statistics that keep its activations apart."""
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = models.get_model(name, weights=None, **options)
    with seeded(zlib.crc32(name.encode())):
        noise = torch.randn(1 << 20)
    statistics = ((name, value) for name, value in module.named_buffers() if "running" in name)
    with torch.no_grad():
        for key, value in itertools.chain(module.named_parameters(), statistics):
            repeated = noise.repeat(-(-value.numel() // len(noise)))[: value.numel()].view(value.shape)
            if value.ndim > 1:
                value.copy_(repeated * (1.6 / value[0].numel()) ** 0.5)
            else:
                value.copy_(1 + 0.2 * repeated.clamp(-2, 2) if "bias" not in key else 0.1 * repeated)
    return module


def fingerprint(module: nn.Module) -> list[object]:
    """What an import must leave alone: classes, modes and flags of all parts, and the memory of all weights."""
    parts = [(name, type(m), m.training, getattr(m, "inplace", None)) for name, m in module.named_modules()]
    hooks = [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in module.modules()]
    values = itertools.chain(module.named_parameters(), module.named_buffers())
    return [parts, hooks, [(name, v.data_ptr(), v._version, v.requires_grad) for name, v in values]]


def assert_same(module: nn.Module, x: torch.Tensor, granularity: str = "block") -> tl.Network:
    """Import, and compare the answers bit for bit."""
    module.train()
    before = fingerprint(module)
    net = from_module(module, [x], granularity)
    assert fingerprint(module) == before

    module.eval()
    with torch.no_grad():
        expected, found = module(x), net(x)
    assert torch.equal(found, expected)
    assert found.isfinite().all()
    assert found.std() > 1e-3  # not one constant, which any two networks could agree on
    assert not any("." in name for name in net.vertices)
    return net


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", [name for name in TORCHVISION if name not in TOO_LARGE])
def test_imported_networks_answer_bit_for_bit_like_torchvisions(name):
    if SIBLINGS.fullmatch(name) and os.environ.get("TLKIT_TEST_SLOW") != "1":
        pytest.skip("has the layers of a smaller one that is compared (TLKIT_TEST_SLOW=1)")
    pixels = PIXELS.get(name, 64)
    with seeded(1):
        x = torch.randn(2, 3, pixels, pixels)
    net = assert_same(original(name), x)
    assert net.output_shapes()[net.outputs[0]] == (1000,)
    assert len(net.cut_points) >= 3


@pytest.mark.slow
@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", OPENED)
def test_opened_blocks_answer_bit_for_bit_like_torchvisions(name):
    pixels = PIXELS.get(name, 64)
    with seeded(1):
        x = torch.randn(2, 3, pixels, pixels)
    module = original(name)
    blocks = from_module(module, [x])
    layers = assert_same(module, x, "layer")
    assert len(layers.vertices) > 2 * len(blocks.vertices)
    for vertex in layers.vertices.values():
        parts = [part for part in vertex.module.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
        assert len(parts) <= 1


def test_left_out_networks_exist():
    assert TOO_LARGE.keys() | PIXELS.keys() | set(OPENED) <= set(TORCHVISION)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "mobilenetv3_small_050", "resnetv2_50", "mobilevit_xxs"])
def test_timms_networks_answer_bit_for_bit(name):
    import timm

    with seeded(1):
        module, x = timm.create_model(name), torch.randn(1, 3, 224, 224)
    assert_same(module, x)


def test_auxiliary_heads_are_left_out():
    module = models.googlenet(weights=None, init_weights=False, aux_logits=True)
    net = from_module(module, [torch.zeros(1, 3, 64, 64)])
    assert not [name for name in net.vertices if "aux" in name]
    assert net.outputs == ("fc",)


# -- what joins what ------------------------------------------------------------------------------------------------


def sequential(*modules: nn.Module, width: int = 4) -> tl.Network:
    return from_module(nn.Sequential(*modules), [torch.zeros(1, width)])


def test_activation_and_batch_norm_join_the_layer_before_them():
    net = sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2), nn.Softmax(dim=1))
    assert list(net.vertices) == ["0", "3"]
    first, last = (net.vertices[name].module for name in ("0", "3"))
    assert isinstance(first, Layer)
    assert isinstance(first, nn.Linear)
    assert isinstance(first.norm, nn.BatchNorm1d)
    assert isinstance(first.activation, nn.ReLU)
    assert isinstance(last.activation, nn.Softmax)
    assert set(net.state_dict()) == {
        "0.weight", "0.bias", "0.norm.weight", "0.norm.bias", "0.norm.running_mean", "0.norm.running_var",
        "0.norm.num_batches_tracked", "3.weight", "3.bias",
    }  # fmt: skip


def test_dropout_joins_the_layer_behind_it():
    net = sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2))
    assert list(net.vertices) == ["0", "3"]
    assert net.vertices["3"].module.dropout.p == 0.3
    assert net.vertices["0"].module.dropout is None
    net.freeze("0").train()
    outputs = {tuple(net(torch.ones(1, 4)).flatten().tolist()) for _ in range(20)}
    assert len(outputs) > 1  # a frozen layer before it doesn't stop it


def test_dropout_that_no_layer_follows_stays_a_vertex():
    net = sequential(nn.Linear(4, 6), nn.Dropout(0.3), nn.ReLU(), nn.Linear(6, 2), nn.Dropout(0.4))
    assert list(net.vertices) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    "second", [nn.ReLU(), nn.BatchNorm1d(4), nn.Tanh()], ids=["activation", "norm", "other activation"]
)
def test_only_the_first_activation_joins(second):
    net = sequential(nn.Linear(4, 4), nn.ReLU(), second)
    assert list(net.vertices) == ["0", "2"]
    x = torch.randn(3, 4)
    assert torch.equal(net(x), second.eval()(net.vertices["0"].module(x)))


class Branches(nn.Module):
    """A layer whose own output is read beside that of its activation."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.between = between
        self.activation = nn.ReLU()

    def forward(self, x):
        x = self.layer(x)
        return self.activation(self.between(x)) - x


@pytest.mark.parametrize("between", [nn.Identity(), nn.Dropout(0.0), nn.Sequential()])
def test_an_activation_does_not_join_a_layer_that_others_read(between):
    net = assert_same(Branches(between), torch.randn(5, 4))
    assert net.vertices["layer"].module.activation is None


def test_flatten_joins_the_pooling_before_it():
    net = from_module(
        nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 2)),
        [torch.zeros(1, 3, 8, 8)],
    )
    assert list(net.vertices) == ["0", "flatten", "3"]
    assert net.output_shapes()["flatten"] == (16,)


def test_timms_batch_norm_with_an_activation_is_taken_apart():
    from timm.layers import BatchNormAct2d

    class Odd(nn.Module):
        def forward(self, x):
            return 2 * x

    norms = [BatchNormAct2d(4), BatchNormAct2d(4, apply_act=False), BatchNormAct2d(4), BatchNormAct2d(4)]
    norms[2].act = Odd()  # no activation that tlkit has a name for
    norms[3].drop = nn.Dropout(0.5)
    for norm in norms:
        assert isinstance(norm, nn.BatchNorm2d)
        nn.init.normal_(norm.running_mean)
        net = assert_same(nn.Sequential(nn.Conv2d(3, 4, 1), norm), torch.randn(2, 3, 5, 5))
        assert len(net.vertices) == (2 if norm is norms[3] else 1)


def test_functional_forms_become_modules():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(3, 4, 3), nn.Linear(4, 6), nn.Linear(6, 60)

        def forward(self, x):
            x = F.relu(self.first(x), inplace=True)
            x = F.adaptive_avg_pool2d(x, 1).flatten(1)
            x = F.dropout(torch.tanh(self.second(x)), 0.4, training=self.training)
            return self.third(x).relu_()

    net = assert_same(Functional(), torch.randn(2, 3, 8, 8))
    assert list(net.vertices) == ["first", "flatten", "second", "third"]
    modules = {name: vertex.module for name, vertex in net.vertices.items()}
    assert isinstance(modules["first"].activation, nn.ReLU)
    assert isinstance(modules["second"].activation, nn.Tanh)
    assert isinstance(modules["third"].dropout, nn.Dropout)
    assert modules["third"].dropout.p == 0.4
    assert isinstance(modules["third"].activation, nn.ReLU)


@pytest.mark.parametrize("drop", [F.dropout, F.dropout2d, F.alpha_dropout, F.feature_alpha_dropout])
def test_functional_dropout_follows_the_mode(drop):
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(1, 50, 1)

        def forward(self, x):
            return drop(self.layer(x), 0.5, training=self.training) * 2

    net = from_module(Dropped(), [torch.ones(1, 1, 2, 2)])
    x = torch.ones(1, 1, 2, 2)
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))
    net.freeze(next(reversed(net.vertices)))
    assert torch.equal(net(x), net(x))
    assert torch.equal(copy.deepcopy(net)(x), net(x))


# -- shared and aliased modules -------------------------------------------------------------------------------------


class Twice(nn.Module):
    """One layer called twice, with another between."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.between, self.end = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = F.relu(self.shared(x))
        x = F.relu(self.between(self.drop(x)))
        return self.end(self.drop(self.shared(x)))


def test_a_module_called_twice_is_two_vertices_over_one_weight():
    net = assert_same(Twice(), torch.randn(5, 4))
    assert [name for name in net.vertices if name.startswith("shared")] == ["shared", "shared_2"]
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in Twice().parameters())
    net.train()
    net(torch.randn(5, 4)).sum().backward()
    both = net.vertices["shared"].module.weight.grad.clone()
    net.zero_grad()
    with torch.no_grad():
        net.vertices["shared"].module.weight.add_(1)
    assert torch.equal(net.vertices["shared_2"].module.shared.weight, net.vertices["shared"].module.weight)
    assert both.abs().sum() > 0


def test_freezing_one_call_of_a_shared_module_alone_is_an_error():
    net = from_module(Twice(), [torch.zeros(1, 4)])
    with pytest.raises(ValueError, match=r"'shared' and 'shared_2' share their weights, so both must be frozen"):
        net.freeze("between")
    assert net.frozen == frozenset()
    assert all(p.requires_grad for p in net.parameters())
    net.freeze("shared_2")
    assert {"shared", "between", "shared_2"} <= net.frozen


def test_a_dropout_used_twice_follows_each_vertex_alone():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Linear(4, 30), nn.Linear(30, 30), nn.Linear(30, 3)
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return self.third(self.drop(self.second(self.drop(self.first(x)))))

    net = from_module(Net(), [torch.zeros(1, 4)]).freeze("second").train()
    assert not net.vertices["second"].module.dropout.training
    assert net.vertices["third"].module.dropout.training


def test_a_batch_norm_used_twice_cannot_be_frozen_in_one_place():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
            self.norm = nn.BatchNorm1d(4, affine=False)

        def forward(self, x):
            return self.norm(self.second(self.norm(self.first(x))))

    net = assert_same(Net(), torch.randn(3, 4))
    with pytest.raises(ValueError, match="share their weights"):
        net.freeze("first")


def test_aliases_of_a_module_keep_their_weights():
    block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.one = self.other = block
            self.end = nn.Linear(4, 2)

        def forward(self, x):
            return self.end(self.other(x))

    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = self.b = self.c = nn.Linear(4, 4)
            self.extra = nn.Linear(4, 4)

        def forward(self, x):
            return self.c(self.extra(self.b(x)))

    assert_same(Aliased(), torch.randn(2, 4))
    net = assert_same(nn.Sequential(Holder(), Holder()), torch.randn(2, 4))
    net.output_shapes()
    assert not any(value.is_meta for value in net.state_dict().values())


# -- what else a module may bring -----------------------------------------------------------------------------------


def test_marks_of_requires_grad_are_not_taken_over_silently():
    module = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    module[0].weight.requires_grad = False
    with pytest.warns(UserWarning, match=r"1 parameters of Sequential have requires_grad=False .*net\.freeze\(name\)"):
        net = from_module(module, [torch.zeros(1, 4)])
    assert net.frozen == frozenset()
    assert all(p.requires_grad for p in net.parameters())
    assert not module[0].weight.requires_grad


def test_constants_and_optional_arguments():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = torch.arange(4.0)  # neither a parameter nor a buffer
            self.layer = nn.Linear(4, 2)

        def forward(self, x, mask=None, scale=2.0):
            if mask is not None:
                x = x * mask
            return self.layer((x - self.mean) * scale + torch.ones(4))

    net = assert_same(Scaled(), torch.randn(3, 4))
    assert net.inputs == ("x",)
    assert net.output_shapes()["layer"] == (2,)

    masked = from_module(Scaled(), [torch.zeros(1, 4), torch.zeros(1, 4)])
    assert masked.inputs == ("x", "mask")


def test_several_inputs_and_outputs():
    class Towers(nn.Module):
        def __init__(self):
            super().__init__()
            self.left, self.right = nn.Linear(4, 3), nn.Linear(5, 3)

        def forward(self, a, b):
            a, b = self.left(a), self.right(b)
            return {"sum": a + b, "parts": [a, None, b.size(0)], "right": b}

    module = Towers()
    net = from_module(module, [torch.zeros(1, 4), torch.zeros(1, 5)])
    assert net.inputs == ("a", "b")
    assert net.outputs == ("add", "left", "right")
    a, b = torch.randn(2, 4), torch.randn(2, 5)
    for found, expected in zip(net(a, b), (module(a, b)["sum"], module.left(a), module.right(b)), strict=True):
        assert torch.equal(found, expected)


def test_an_input_may_be_an_output():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return x, self.layer(x)

    net = from_module(Both(), torch.zeros(1, 4))  # a single input needs no list
    assert net.outputs == ("x", "layer")
    x = torch.randn(2, 4)
    assert net(x)[0] is x


def test_parameters_outside_layers_are_weights_of_the_vertex_that_reads_them():
    class Embedded(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.position = nn.Parameter(torch.randn(3, 4))

        def forward(self, x):
            return self.layer(x + self.position.softmax(0)[1])

    net = assert_same(Embedded(), torch.randn(2, 4))
    assert "add.position" in net.state_dict()
    assert list(net.vertices) == ["add", "layer"]
    net.freeze("add")
    assert not dict(net.named_parameters())["add.position"].requires_grad


def test_sizes_are_those_of_the_batch_at_hand():
    class Flattened(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(12, 5)

        def forward(self, x):
            return self.layer(x.view(x.size(0), -1)) + x.new_ones(x.shape[0], 5)

    assert_same(Flattened(), torch.randn(7, 3, 4))


def test_recurrent_and_attention_layers_are_whole():
    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.recurrent = nn.LSTM(4, 4, batch_first=True)
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            x, _ = self.recurrent(x)
            return self.head(self.attention(x, x, x)[0].mean(1))

    assert_same(Mixed(), torch.randn(3, 5, 4))


def test_names_hold_no_dots_and_never_meet():
    class Names(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Sequential(nn.Linear(4, 4))
            self.a_0 = nn.Linear(4, 4)
            self.add = nn.Linear(4, 4)

        def forward(self, x):
            return self.add(self.a_0(self.a(x)) + x) + x

    net = assert_same(Names(), torch.randn(2, 4))
    assert list(net.vertices) == ["a_0", "a_0_2", "add", "add_2", "add_3"]
    assert net.resolve("a.0") == "a_0"


def test_an_imported_network_can_be_imported_again_pickled_and_copied():
    net = sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    again = from_module(net.to_module(), [x])
    for other in (again, pickle.loads(pickle.dumps(net)), copy.deepcopy(net)):
        assert list(other.vertices) == list(net.vertices)
        assert torch.equal(other(x), net(x))
        with torch.no_grad():
            other.vertices["0"].module.weight.zero_()
        assert not torch.equal(other(x), net(x))


# -- errors ---------------------------------------------------------------------------------------------------------


class ByValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else x


class ByBatch(ByValue):
    def forward(self, x):
        return self.layer(x) if x.shape[0] > 1 else x


class BySize(ByValue):
    def forward(self, x):
        for _ in range(x.shape[1] // 2):
            x = self.layer(x) if x.shape[1] == 4 else x
        return x


class ByNumber(ByValue):
    def forward(self, x):
        return torch.stack([self.layer(row) for row in x])


class ByItem(ByValue):
    def forward(self, x):
        return self.layer(x) * x.max().item()


class ByLength(ByValue):
    def forward(self, x):
        return self.layer(x) / len(x)


class ByMask(ByValue):
    def forward(self, x):
        return self.layer(x[x.sum(1) >= 0]).sum() + x


class ByKind(ByValue):
    def forward(self, x):
        if type(x) is not torch.Tensor:
            raise TypeError("no tensor")
        return self.layer(x)


UNTRACEABLE = {
    ByValue: "return self.layer(x) if x.sum() > 0 else x",
    ByBatch: "return self.layer(x) if x.shape[0] > 1 else x",
    ByNumber: "return torch.stack([self.layer(row) for row in x])",
    ByItem: "return self.layer(x) * x.max().item()",
    ByLength: "return self.layer(x) / len(x)",
    ByMask: "return self.layer(x[x.sum(1) >= 0]).sum() + x",
    ByKind: 'raise TypeError("no tensor")',
}


def line_of(text: str) -> int:
    """Return the number of the line of this file that says it."""
    (number,) = (n for n, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.strip() == text)
    return number


def around(part: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 4), part, nn.Linear(4, 2))


@pytest.mark.parametrize("kind", UNTRACEABLE)
def test_what_cannot_be_traced_is_refused_with_its_line_and_a_way_out(kind):
    line = f"test_importing.py, line {line_of(UNTRACEABLE[kind])}, in {kind.__name__}.forward: `{UNTRACEABLE[kind]}`"
    with pytest.raises(ValueError, match="cannot be traced") as caught:
        from_module(kind(), [torch.zeros(1, 4)])
    sentence = str(caught.value)
    assert sentence.startswith(f"{kind.__name__} cannot be traced beyond {line} (")
    assert "knows shapes, but no values, and not how many examples there are" in sentence
    assert sentence.endswith(
        "Move that step into a module of its own and make its class a leaf, one vertex whose steps may depend on "
        "anything: tl.Network.from_module(..., leaves=[ItsClass]). Or build the network vertex by vertex with "
        "tl.Network."
    )

    with pytest.raises(ValueError, match="cannot be traced") as caught:
        from_module(around(kind()), [torch.zeros(1, 4)])
    sentence = str(caught.value)
    assert sentence.startswith(f"Sequential cannot be traced beyond {line} (")
    assert sentence.endswith(
        f"Make {kind.__name__} a leaf, one vertex whose steps may depend on anything: "
        f"tl.Network.from_module(..., leaves=[{kind.__name__}])."
    )


@pytest.mark.parametrize("kind", UNTRACEABLE)
def test_the_way_out_in_the_error_works(kind):
    for seed in (1, 2):
        with seeded(seed):
            module, x = around(kind()), torch.randn(3, 4)
        net = tl.Network.from_module(module, [torch.zeros(1, 4)], leaves=[kind])
        assert list(net.vertices) == ["0", "1", "2"]
        assert type(net.vertices["1"].module) is kind
        assert net.output_shapes()["2"] == (2,)
        assert torch.equal(net(x), module.eval()(x))


class TwoWays(nn.Module):
    """Two layers and a dropout, called with a tensor and a number."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.drop = nn.Dropout(0.5)

    def forward(self, x, y, scale=1.0):
        layer = self.layers[int(x.sum() > 0)]
        return self.drop(layer(x)) + y * scale


class Outer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start, self.two, self.end = nn.Linear(4, 4), TwoWays(), nn.Linear(4, 3)

    def forward(self, x):
        start = self.start(x)
        x = self.two(start.relu(), start, scale=2.0)
        return self.end(self.two(x, start))


@pytest.mark.parametrize("granularity", ["block", "layer"])
def test_a_leaf_may_read_several_tensors_and_be_called_twice(granularity):
    with seeded(1):
        module, x = Outer(), torch.randn(5, 4)
    before = fingerprint(module)
    net = from_module(module, [x], granularity, leaves=TwoWays)  # one class needs no list
    assert fingerprint(module) == before
    assert torch.equal(net(x), module.eval()(x))
    assert [vertex.inputs for name, vertex in net.vertices.items() if "two" in name] == [
        ("relu", "start"), ("two", "start"),
    ]  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in module.parameters())
    net.train()
    assert not torch.equal(net(x), net(x)), "its dropout follows the mode"
    net.freeze("two_2").train()
    assert torch.equal(net(x), net(x))


def test_a_leaf_trains_on_features_as_in_the_whole_network():
    def network():
        with seeded(1):
            net = from_module(around(ByValue()), [torch.zeros(1, 4)], leaves=[ByValue])
        edits = tl.TransferLearning(net).remove_vertex_keep_connections("2").set_feature_extractor("0")
        edits.fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Adam(1e-2), seed=3))
        return edits.add_layer("2", tl.Output(3), "1").build()

    whole, parts = network(), network()
    data = blobs()
    tl.fit(whole, data, batch_size=8, progress=False)
    helper = tl.TransferLearningHelper(parts)
    helper.fit_featurized(helper.featurize(data, progress=False), batch_size=8, progress=False)
    assert furthest(weights(whole), weights(parts)) <= 1e-6
    assert furthest(weights(whole), weights(network())) > 1e-3


def test_nothing_joins_a_leaf_and_a_leaf_joins_nothing():
    class Scaled(nn.Linear):
        pass

    class Rectified(nn.ReLU):
        pass

    module = nn.Sequential(nn.Linear(4, 4), Rectified(), nn.Dropout(0.5), Scaled(4, 4), nn.ReLU(), nn.Linear(4, 2))
    assert list(from_module(module, [torch.zeros(1, 4)]).vertices) == ["0", "3", "5"]
    net = from_module(module, [torch.zeros(1, 4)], leaves=(Scaled, Rectified))
    assert [(name, type(v.module).__name__) for name, v in net.vertices.items()] == [
        ("0", "Linear"), ("1", "Rectified"), ("2", "Dropout"), ("3", "Scaled"), ("4", "ReLU"), ("5", "Linear"),
    ]  # fmt: skip
    assert type(net.vertices["3"].module) is Scaled


def test_leaves_keep_blocks_whole_that_would_be_opened():
    with torch.device("meta"):
        module = models.resnet18()
    leaf = type(module.layer1[0])
    opened = from_module(module, granularity="layer")
    kept = from_module(module, granularity="layer", leaves=[leaf])
    assert [name for name, v in kept.vertices.items() if isinstance(v.module, leaf)] == [
        f"layer{stage}_{block}" for stage in (1, 2, 3, 4) for block in (0, 1)
    ]
    assert len(opened.vertices) > 2 * len(kept.vertices)
    assert list(kept.vertices) == list(from_module(module).vertices)


def test_wrong_leaves_are_named():
    module = around(ByValue())
    with pytest.raises(
        TypeError, match=r"leaves are classes of modules, .* got a ByValue object\. Give its class: leaves=\[ByV"
    ):
        from_module(module, [torch.zeros(1, 4)], leaves=[module[1]])
    for wrong in ("ByValue", ["ByValue"], [int]):
        with pytest.raises(TypeError, match=r"leaves are classes of modules, such as leaves=\[MyBlock\], got "):
            from_module(module, [torch.zeros(1, 4)], leaves=wrong)
    sentence = r"Sequential holds no ByBatch, .*classes 'Linear' and 'ByValue'\."
    with pytest.raises(ValueError, match=sentence):
        from_module(module, [torch.zeros(1, 4)], leaves=[ByBatch])
    with pytest.raises(ValueError, match=r"ByValue holds no ByValue, so there is nothing to make a leaf of"):
        from_module(ByValue(), [torch.zeros(1, 4)], leaves=[ByValue])  # the whole is no part of itself


def test_a_name_is_no_module():
    with pytest.raises(TypeError, match=r"A torch module is imported, got 'resnet18'\. tl\.zoo\.load"):
        from_module("resnet18")


def test_wrong_example_inputs_are_named():
    with pytest.raises(ValueError, match=r"Linear reads 'input', and example_inputs holds 2 batches"):
        from_module(nn.Linear(4, 4), [torch.zeros(1, 4), torch.zeros(1, 4)])
    with pytest.raises(ValueError, match=r"Bilinear reads 'input1' and 'input2', and example_inputs holds 1 batches"):
        from_module(nn.Bilinear(4, 4, 2))
    with pytest.raises(ValueError, match=r"Sequential cannot run on an input of shape \(1, 5\) \(.*example_inputs"):
        from_module(nn.Sequential(nn.Linear(4, 4)), [torch.zeros(1, 5)])


def test_inputs_that_do_not_fit_are_told_from_what_cannot_be_traced():
    class Joins(ByValue):
        def forward(self, x):
            return self.layer(torch.cat([x, x], dim=1))  # too wide

    text = "return self.layer(torch.cat([x, x], dim=1))  # too wide"
    sentence = (
        rf"Joins cannot run on an input of shape \(1, 4\), see test_importing\.py, line {line_of(text)}, in "
        r"Joins\.forward: `.*` \(mat1 and mat2.*give example_inputs, one batch for each\."
    )
    with pytest.raises(ValueError, match=sentence):
        from_module(Joins(), [torch.zeros(1, 4)])


class Sized(ByValue):
    def forward(self, x):
        return self.layer(x).shape


@pytest.mark.parametrize(
    ("module", "answer"), [(Sized(), "Size"), (nn.Sequential(nn.Linear(4, 4), nn.LSTM(4, 4)), "tuple")]
)
def test_an_answer_that_is_no_tensor_is_refused_with_its_kind(module, answer):
    sentence = rf"{type(module).__name__} answers with '{answer}', and a network answers with tensors.*return y\[0\], y"
    with pytest.raises(ValueError, match=sentence):
        from_module(module, [torch.zeros(1, 4)])


def test_an_unknown_granularity_lists_near_misses():
    with pytest.raises(ValueError, match=r"'block' or 'layer', got 'layers'. Did you mean 'layer'\?"):
        from_module(nn.Sequential(nn.Linear(4, 4)), [torch.zeros(1, 4)], "layers")
