from __future__ import annotations

import gc
import weakref

import pytest
import torch
from nets import seeded
from torch import nn
from torch.nn import functional as F
from torchvision import models

import tlkit as tl
from tlkit.graph.importing import from_module


class TwoLayers(nn.Module):
    def __init__(self, step) -> None:
        super().__init__()
        with seeded(0):
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu = nn.ReLU(inplace=True)
        self.step = step

    def forward(self, x):
        return self.step(self, x)


def add_to_itself(m, x):
    x = m.first(x)
    kept = x
    x += 1
    return m.second(kept) + x


def subtract_and_scale(m, x):
    x = m.first(x)
    kept = x
    x -= 0.5
    x *= 2
    x /= 3
    return m.second(x) + kept


def without_assignment(m, x):
    x = m.first(x)
    x.relu_()
    return m.second(x)


def functional(m, x):
    x = m.first(x)
    y = F.leaky_relu(x, 0.1, inplace=True)
    return m.second(x) + y


def module_form(m, x):
    x = m.first(x)
    y = m.relu(x)
    return m.second(x) - 2 * y


def on_the_input(m, x):
    x.mul_(2)
    return m.second(m.relu(x)) + x


def several(m, x):
    x = m.first(x)
    x.relu_()
    x.add_(1)
    torch.sigmoid_(x)
    return m.second(x) * x


def twice_in_place(m, x):
    x = m.relu(m.first(x))
    return m.second(m.relu(m.second(x)))


def after_a_view(m, x):
    x = m.first(x).view(-1, 2, 2)
    x.relu_()
    return m.second(x.flatten(1))


def an_item(m, x):
    x = m.first(x)
    kept = x
    x[:, 1:3] = x[:, 2:].clone()
    x[x < 0] = 0.5
    return m.second(kept) + x


def a_part(m, x):
    x = m.first(x)
    x[:, 0] *= 2
    x[:, 1] += x[:, 2]
    return m.second(x)


STEPS = [
    add_to_itself, subtract_and_scale, without_assignment, functional, module_form, on_the_input, several,
    twice_in_place, after_a_view, an_item, a_part,
]  # fmt: skip


def every_activation(net: tl.Network, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """What each vertex answers when nothing that runs behind it can reach its output."""
    values = {net.inputs[0]: x}
    for name, vertex in net.vertices.items():
        values[name] = vertex.module(*(values[other].clone() for other in vertex.inputs))
    return values


def all_outputs(net: tl.Network) -> tl.Network:
    return tl.Network(net.vertices, net.input_shapes, list(net.vertices))


@pytest.mark.parametrize("step", STEPS)
def test_in_place_operations_mean_what_they_meant_and_change_no_vertex(step):
    module = TwoLayers(step).eval()
    with seeded(1):
        x = torch.randn(6, 4)
    net = from_module(module, [x])
    assert torch.equal(net(x.clone()), module(x.clone()))

    before = x.clone()
    seen = every_activation(net, x)
    assert torch.equal(x, before)
    for name, value in zip(net.vertices, all_outputs(net)(x), strict=True):
        assert torch.equal(value, seen[name]), f"{name} was overwritten by a later vertex"


@pytest.mark.parametrize("step", [step for step in STEPS if step is not several])  # torch itself refuses that one
def test_gradients_are_those_of_the_original(step):
    module = TwoLayers(step).eval()
    net = from_module(module, [torch.randn(6, 4)])
    with seeded(1):
        x = torch.randn(6, 4)
    if step is not on_the_input:  # torch itself refuses to change an input that takes a gradient
        x.requires_grad_()
    module(x.clone()).square().sum().backward()
    net(x.clone()).square().sum().backward()
    expected = sorted((p.grad for p in module.parameters() if p.grad is not None), key=lambda g: float(g.sum()))
    found = sorted((p.grad for p in net.parameters() if p.grad is not None), key=lambda g: float(g.sum()))
    for a, b in zip(found, expected, strict=True):
        assert torch.allclose(a, b, atol=1e-6)


class PreActivated(nn.Module):
    """A block whose first step overwrites its input, which its shortcut then adds: it adds the changed one."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        return self.second(self.relu(self.first(self.relu(x)))) + x


@pytest.mark.parametrize("granularity", ["block", "layer"])
def test_a_block_that_overwrites_its_input_works_on_a_copy(granularity):
    with seeded(0):
        module, x = nn.Sequential(nn.Linear(4, 4), PreActivated(), PreActivated()).eval(), torch.randn(5, 4)
    net = from_module(module, [x], granularity)
    assert torch.equal(net(x), module(x.clone()))
    seen = every_activation(net, x)
    for name, value in zip(net.vertices, all_outputs(net)(x), strict=True):
        assert torch.equal(value, seen[name])

    if granularity == "block":
        net.freeze("0")
        front, back = net.split()
        boundary = front(x)
        before = boundary.clone()
        back.train()(boundary)
        assert torch.equal(boundary, before)


def test_a_dropout_at_a_vertex_start_never_overwrites_the_boundary():
    module = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5, inplace=True), nn.Linear(4, 2))
    net = from_module(module, [torch.zeros(1, 4)]).freeze("0")
    assert module[1].inplace
    front, back = net.split()
    boundary = front(torch.randn(9, 4))
    before = boundary.clone()
    back.train()(boundary)
    assert torch.equal(boundary, before)


def test_a_change_that_a_graph_cannot_tell_is_refused():
    def through_a_view(m, x):
        x = m.first(x)
        x.view(-1).mul_(2)
        return m.second(x)

    sentence = (
        r"mul_ changes its input in place, and second reads it afterwards \(test_tracing\.py, line \d+, in "
        r"through_a_view: `x\.view\(-1\)\.mul_\(2\)`\).*clone\(\)\. .*leaves=\[ItsClass\]"
    )
    with pytest.raises(ValueError, match=sentence):
        from_module(TwoLayers(through_a_view), [torch.zeros(1, 4)])

    def item_of_a_view(m, x):
        x = m.first(x)
        x.view(-1, 2, 2)[:, 0] = 1
        return m.second(x)

    with pytest.raises(ValueError, match=r"set_item changes its input in place, and second reads it afterwards"):
        from_module(TwoLayers(item_of_a_view), [torch.zeros(1, 4)])

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.block = nn.Linear(4, 4), PreActivated()

        def forward(self, x):
            x = self.start(x)
            return self.block(x) * x

    with pytest.raises(ValueError, match="block changes its input in place"):
        from_module(Reader(), [torch.zeros(1, 4)])


def item_of_a_constant(m, x):
    out = torch.zeros(4)
    out[0] = m.first(x).sum()
    return m.second(x) + out


def sum_on_a_constant(m, x):
    out = torch.zeros(4)
    out.add_(m.first(x).sum(0))
    return m.second(x) + out


def into_a_buffer(m, x):
    m.mean.copy_(x.mean(0))
    return m.second(x) + m.mean


@pytest.mark.parametrize("step", [item_of_a_constant, sum_on_a_constant, into_a_buffer])
def test_a_changed_tensor_that_is_no_input_is_refused_and_a_leaf_is_the_way_out(step):
    module = TwoLayers(step)
    module.register_buffer("mean", torch.zeros(4))
    name = step.__name__
    sentence = (
        rf"in place a tensor that does not .* \(test_tracing\.py, line \d+, in {name}: .*x\.new_zeros\(n\)\. .*leaves="
    )
    with pytest.raises(ValueError, match=sentence):
        from_module(module, [torch.zeros(1, 4)])

    net = from_module(nn.Sequential(module), [torch.zeros(1, 4)], leaves=[TwoLayers])
    x = torch.randn(3, 4)
    assert torch.equal(net(x), module.eval()(x))


def test_adding_to_a_constant_starts_anew_with_each_batch():
    def on_a_constant(m, x):
        out = torch.ones(4)
        out += m.first(x).sum(0)
        return m.second(x) + out

    module = TwoLayers(on_a_constant).eval()
    net = from_module(module, [torch.zeros(1, 4)])
    for _ in range(3):
        x = torch.randn(3, 4)
        assert torch.equal(net(x), module(x))
        net(x).sum().backward()  # no graph of an earlier batch is left in the constant


@pytest.mark.slow
def test_functions_of_training_follow_the_vertex_at_layer_granularity():
    with torch.device("meta"):
        module = models.swin_t(attention_dropout=0.5)
    net = from_module(module, granularity="layer")
    attention = [v.module for name, v in net.vertices.items() if name.startswith("shifted_window_attention")]
    assert len(attention) == 12
    assert all("training = self.training" in module.code for module in attention)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "vit_b_16", "swin_t"])
def test_weights_leave_the_memory_with_the_last_network_that_holds_them(name):
    with torch.device("meta"):
        module = models.get_model(name)
    gc.collect()
    gc.disable()  # so that only what is in no circle goes
    try:
        net = from_module(module)
        net.output_shapes()
        weights = [weakref.ref(parameter) for parameter in net.parameters()]
        del net
        assert not [weight for weight in weights if weight() is not None]
    finally:
        gc.enable()
