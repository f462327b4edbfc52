import functools

import pytest
import torch
from by_hand import HAND_WRITTEN, assert_same_weights, by_hand, fit, plain
from nets import blobs, chain, classifier, moved, weights
from torch import nn
from torch.nn import functional as F

import tlkit as tl
from tlkit.training.optimizers import DEFAULT_UPDATER, STATE, Optimizers, join_state, part_state


def tuned(updater, **options):
    net = chain(4, 8, 3)
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=updater, seed=1, **options))
        .remove_vertex_keep_connections("1")
        .add_layer("1", tl.Output(3), "0")
        .build()
    )


def trained_by_hand(net, optimizer, change_gradients=None, change_weights=None, steps=4):
    """Train plain torch layers with whatever an option means, written out."""
    layers = [nn.Linear(4, 8), nn.Linear(8, 3)]
    for layer, vertex in zip(layers, net.vertices.values(), strict=True):
        layer.load_state_dict(vertex.module.state_dict())
    rule = optimizer([p for layer in layers for p in layer.parameters()])
    x, y = blobs()
    for _ in range(steps):
        rule.zero_grad()
        F.cross_entropy(layers[1](layers[0](x).relu()), y).backward()
        with torch.no_grad():
            for layer in layers:
                if change_gradients:
                    change_gradients(layer)
                if change_weights:
                    change_weights(layer)
        rule.step()
    return [p.detach() for layer in layers for p in layer.parameters()]


def check(net, expected, steps=4, tolerance=0.0):
    before = weights(net)
    tl.fit(net, blobs(), epochs=steps, batch_size=24, shuffle=False, progress=False)
    for ours, theirs in zip(net.parameters(), expected, strict=True):
        assert (ours - theirs).abs().max() <= tolerance
    assert moved(net, before) == {"0", "1"}


def sgd(parameters):
    return torch.optim.SGD(parameters, lr=0.5)


def adam(parameters):
    return torch.optim.Adam(parameters, lr=0.05)


BOTH = pytest.mark.parametrize(("updater", "rule"), [(tl.Sgd(0.5), sgd), (tl.Adam(0.05), adam)], ids=["sgd", "adam"])


# -- penalties ------------------------------------------------------------------------------------------------------


@BOTH
def test_l1_adds_the_sign_of_the_weights_to_their_gradients_and_leaves_biases_alone(updater, rule):
    def penalty(layer):
        layer.weight.grad += 0.1 * layer.weight.sign()

    net = tuned(updater, l1=0.1)
    check(net, trained_by_hand(net, rule, penalty), tolerance=1e-7)


@BOTH
def test_l2_adds_the_weights_to_their_gradients_and_leaves_biases_alone(updater, rule):
    def penalty(layer):
        layer.weight.grad += 0.1 * layer.weight

    net = tuned(updater, l2=0.1)
    check(net, trained_by_hand(net, rule, penalty), tolerance=1e-7)


@BOTH
def test_weight_decay_shrinks_the_weights_by_their_share_of_the_learning_rate(updater, rule):
    def decay(layer):
        layer.weight *= 1 - updater.lr * 0.1

    net = tuned(updater, weight_decay=0.1)
    check(net, trained_by_hand(net, rule, change_weights=decay), tolerance=1e-7)


def test_adam_with_weight_decay_is_adamw_on_the_weights():
    net = tuned(tl.Adam(0.05), weight_decay=0.3)

    def adamw(parameters):
        first, *biases = [[p for p in parameters if p.ndim > 1], *[p for p in parameters if p.ndim == 1]]
        groups = [{"params": first, "weight_decay": 0.3}, {"params": biases, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=0.05)

    check(net, trained_by_hand(net, adamw), tolerance=1e-7)


def test_penalties_add_up():
    def penalty(layer):
        layer.weight.grad += 0.1 * layer.weight.sign() + 0.2 * layer.weight

    net = tuned(tl.Sgd(0.5), l1=0.1, l2=0.2)
    check(net, trained_by_hand(net, sgd, penalty), tolerance=1e-6)


@BOTH
def test_penalties_on_biases_leave_weights_alone(updater, rule):
    lr = updater.lr

    def gradients(layer):
        layer.bias.grad += 0.1 * layer.bias.sign() + 0.2 * layer.bias

    def values(layer):
        layer.bias.mul_(1 - lr * 0.3)

    net = tuned(updater, l1_bias=0.1, l2_bias=0.2, weight_decay_bias=0.3, bias_init=0.5)
    check(net, trained_by_hand(net, rule, gradients, values), tolerance=1e-6)


def test_biases_may_have_an_updater_of_their_own():
    def rule(parameters):
        weights, biases = parameters[::2], parameters[1::2]
        return torch.optim.SGD([{"params": weights, "lr": 0.5}, {"params": biases, "lr": 0.02}])

    net = tuned(tl.Sgd(0.5), bias_updater=tl.Sgd(0.02))
    check(net, trained_by_hand(net, rule))


def test_the_shift_of_a_normalization_is_no_bias():
    module = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3), nn.LayerNorm(3))
    edits = tl.TransferLearning(tl.Network.from_module(module, torch.zeros(1, 4)))
    edits.fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.1), bias_updater=tl.Adam(0.1)))
    optimizers = Optimizers.of(edits.build())
    biases = {id(p) for group in optimizers.groups for p in group.biases}
    names = {name for name, p in optimizers.network.named_parameters() if id(p) in biases}
    assert names == {"0.bias", "3.bias"}


@pytest.mark.parametrize("option", ["l1", "l2", "weight_decay"])
def test_frozen_vertices_are_not_penalized(option):
    net = tuned(tl.Sgd(0.5), **{option: 0.1}).freeze("0")
    before = weights(net)
    history = tl.fit(net, blobs(), epochs=3, batch_size=24, progress=False)
    assert moved(net, before) == {"1"}
    bare = tuned(tl.Sgd(0.5), **{option: 0.1})
    with torch.no_grad():
        weight = bare.vertices["1"].module.weight
        penalty = {"l1": 0.1 * weight.abs().sum(), "l2": 0.05 * weight.square().sum(), "weight_decay": 0.0}[option]
    plain = tl.fit(tuned(tl.Sgd(0.5)).freeze("0"), blobs(), batch_size=24, progress=False)
    assert history.losses[0] == pytest.approx(plain.losses[0] + float(penalty), rel=1e-5)


def test_only_the_layer_that_has_a_penalty_is_penalized():
    net = tl.TransferLearning(tuned(tl.Sgd(0.5))).add_layer("2", tl.Output(3, l2=5.0, updater=tl.Sgd(0.5)), "0")
    net = net.remove_vertex_and_connections("1").set_outputs("2").build()
    same = tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(l2=None)).build()
    for one in (net, same):
        tl.fit(one, blobs(), batch_size=24, progress=False)
    assert moved(same, weights(net)) == {"2"}


# -- gradient normalization -----------------------------------------------------------------------------------------


def clip_value(layer):
    for p in layer.parameters():
        p.grad.clamp_(-0.01, 0.01)


def clip_layer(layer):
    torch.nn.utils.clip_grad_norm_(layer.parameters(), 0.01)


def clip_parameter(layer):
    for p in layer.parameters():
        torch.nn.utils.clip_grad_norm_([p], 0.01)


def renormalize_layer(layer):
    norm = torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()
    for p in layer.parameters():
        p.grad /= norm


def renormalize_parameter(layer):
    for p in layer.parameters():
        p.grad /= p.grad.norm()


NORMALIZATIONS = {
    "clip_value": clip_value,
    "clip_norm_per_layer": clip_layer,
    "clip_norm_per_parameter": clip_parameter,
    "renormalize_per_layer": renormalize_layer,
    "renormalize_per_parameter": renormalize_parameter,
}


@pytest.mark.parametrize("kind", NORMALIZATIONS)
def test_gradient_normalization_does_what_its_name_says(kind):
    net = tuned(tl.Sgd(0.5), gradient_normalization=kind, gradient_normalization_threshold=0.01)
    expected = trained_by_hand(net, sgd, NORMALIZATIONS[kind])
    plain = trained_by_hand(net, sgd)
    assert max((a - b).abs().max() for a, b in zip(plain, expected, strict=True)) > 1e-3, "it makes a difference"
    check(net, expected, tolerance=1e-6)


@pytest.mark.parametrize("kind", ["clip_value", "clip_norm_per_layer", "clip_norm_per_parameter"])
def test_clipping_leaves_small_gradients_alone(kind):
    net = tuned(tl.Sgd(0.5), gradient_normalization=kind, gradient_normalization_threshold=1e6)
    check(net, trained_by_hand(net, sgd))


def test_gradients_are_normalized_before_penalties_join_them():
    def both(layer):
        clip_value(layer)
        layer.weight.grad += 0.1 * layer.weight

    net = tuned(tl.Sgd(0.5), gradient_normalization="clip_value", gradient_normalization_threshold=0.01, l2=0.1)
    check(net, trained_by_hand(net, sgd, both), tolerance=1e-7)


def test_a_gradient_of_zero_is_not_divided_by_zero():
    net = tuned(tl.Sgd(0.5), gradient_normalization="renormalize_per_layer")
    x, y = blobs()
    tl.fit(net, (torch.zeros_like(x), y), progress=False)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


# -- which optimizers there are -------------------------------------------------------------------------------------


def test_equal_updaters_share_one_optimizer_and_others_have_their_own():
    net = tl.TransferLearning(classifier(4, 8, 8, 3)).add_layer("3", tl.Output(2, updater=tl.Adam(0.1)), "1")
    optimizers = Optimizers.of(net.set_outputs("2", "3").build())
    assert set(optimizers.by_updater) == {tl.Sgd(0.1), tl.Adam(0.1)}
    assert len(optimizers.by_updater[tl.Sgd(0.1)].param_groups[0]["params"]) == 6
    assert len(optimizers.by_updater[tl.Adam(0.1)].param_groups[0]["params"]) == 2


def test_without_an_updater_it_is_adam():
    assert tl.Adam(1e-3) == DEFAULT_UPDATER
    assert set(Optimizers.of(chain(4, 3)).by_updater) == {DEFAULT_UPDATER}


def test_only_trainable_weights_take_part_and_their_state_goes_when_they_are_frozen():
    net = classifier(4, 8, 3, updater=tl.Adam(0.1))
    tl.fit(net, blobs(), progress=False)
    (optimizer,) = net.optimizers.by_updater.values()
    assert set(optimizer.state) == set(net.parameters())
    net.freeze("0")
    assert Optimizers.of(net) is net.optimizers
    assert net.optimizers.by_updater == {tl.Adam(0.1): optimizer}
    assert set(optimizer.state) == set(net.vertices["1"].module.parameters())
    assert optimizer.param_groups[0]["params"] == list(net.vertices["1"].module.parameters())


def test_an_updater_that_nobody_uses_any_more_is_dropped():
    net = tl.TransferLearning(chain(4, 8, 3)).fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.1)))
    net = net.remove_vertex_keep_connections("1").add_layer("1", tl.Output(3, updater=tl.Adam(0.1)), "0").build()
    tl.fit(net, blobs(), progress=False)
    assert set(net.optimizers.by_updater) == {tl.Sgd(0.1), tl.Adam(0.1)}
    net.freeze("0")
    assert set(Optimizers.of(net).by_updater) == {tl.Adam(0.1)}


def test_a_weight_that_vertices_share_is_stepped_once():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x):
            return self.layer(torch.relu(self.layer(x)))

    net = tl.Network.from_module(Twice(), [torch.zeros(1, 4)])
    net = tl.TransferLearning(net).add_layer("head", tl.Output(3), *net.outputs).set_outputs("head").build()
    (optimizer,) = Optimizers.of(net).by_updater.values()
    parameters = optimizer.param_groups[0]["params"]
    assert len(parameters) == len({id(p) for p in parameters}) == 4
    before = weights(net)
    tl.fit(net, blobs(), progress=False)
    assert moved(net, before) == {"layer", "layer_2", "head"}


def test_an_optimizer_of_torch_given_as_a_partial_is_used():
    rule = functools.partial(torch.optim.Rprop, lr=0.02)
    net = tuned(rule)
    check(net, trained_by_hand(net, rule))


def test_biases_that_vertices_share_are_penalized_once():
    shared = nn.Linear(4, 4)
    vertices = {"a": tl.Vertex(shared, "x"), "b": tl.Vertex(shared, "a"), "out": tl.Vertex(nn.Linear(4, 3), "b")}
    edits = tl.TransferLearning(tl.Network(vertices, {"x": (4,)}, "out"))
    edits.fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.1), l2=0.5, l2_bias=2.0))
    optimizers = Optimizers.of(edits.build())
    for parameter in optimizers.network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = [parameter.detach().clone() for parameter in optimizers.network.parameters()]
    penalty = optimizers.step()
    for old, parameter in zip(before, optimizers.network.parameters(), strict=True):
        rate = 0.5 if parameter.ndim > 1 else 2.0
        assert torch.allclose(parameter, old * (1 - 0.1 * rate))
    expected = sum((0.25 if old.ndim > 1 else 1.0) * old.square().sum() for old in before)
    assert torch.allclose(penalty, expected)


def test_a_new_layer_trains_with_its_own_updater():
    old = chain(4, 8, 8, 3)
    net = (
        tl.TransferLearning(old)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(0.1), seed=1))
        .remove_vertex_keep_connections("1")
        .add_layer("1", tl.Dense(8, activation="relu", updater=tl.Adam(0.01)), "0")
        .remove_vertex_keep_connections("2")
        .add_layer("2", tl.Output(3, updater=tl.Nesterovs(0.05, 0.8)), "1")
        .build()
    )
    module = plain(net)
    rules = [
        torch.optim.SGD(module[0].parameters(), lr=0.1),
        torch.optim.Adam(module[2].parameters(), lr=0.01),
        torch.optim.SGD(module[4].parameters(), lr=0.05, momentum=0.8, nesterov=True),
    ]
    fit(net, epochs=3, batch_size=8, shuffle=False)
    assert_same_weights(net, by_hand(module, blobs(), rules))


@pytest.mark.parametrize("calls", [1, 3])
@pytest.mark.parametrize("name", HAND_WRITTEN)
def test_updaters_do_what_a_loop_by_hand_does_and_keep_their_state_between_calls(name, calls):
    updater, make = HAND_WRITTEN[name]
    net = classifier(4, 8, 3, updater=updater)
    module = plain(net)
    for _ in range(calls):
        fit(net, epochs=3 // calls, batch_size=8, shuffle=False)
    assert_same_weights(net, by_hand(module, blobs(), [make(module.parameters())], epochs=3))


@pytest.mark.parametrize("updater", [tl.Adam(0.01), tl.Nesterovs(0.1, 0.9)], ids=["adam", "nesterovs"])
def test_a_vertex_frozen_after_some_steps_stays_where_it_is(updater):
    net = classifier(4, 8, 8, 3, updater=updater)
    fit(net, epochs=2)
    before = weights(net.freeze("0"))
    fit(net, epochs=2)
    assert moved(net, before) == {"1", "2"}


def test_a_vertex_unfrozen_later_joins_without_resetting_the_others():
    net = classifier(4, 8, 8, 3, updater=tl.Adam(0.01)).freeze("0")
    module = plain(net)
    late = torch.optim.Adam(module[0].parameters(), lr=0.01)
    others = torch.optim.Adam(module[2:].parameters(), lr=0.01)
    fit(net, epochs=2, batch_size=8, shuffle=False)
    by_hand(module, blobs(), [others], epochs=2)
    module[0].zero_grad()
    net.unfreeze("0")
    fit(net, epochs=2, batch_size=8, shuffle=False)
    assert_same_weights(net, by_hand(module, blobs(), [late, others], epochs=2))


def test_the_state_is_parted_into_plain_values_and_tensors_and_joined_again():
    net = tuned(tl.Adam(0.01))
    tl.fit(net, blobs(), progress=False)
    state = Optimizers.of(net).state()
    plain_values, tensors = part_state(state)
    assert all(name.startswith(STATE) for name in tensors)
    joined = join_state(plain_values, tensors | {"0.weight": torch.zeros(1)})
    assert joined.keys() == state.keys()
    for weight, values in state.items():
        assert joined[weight].keys() == values.keys()
        assert all(torch.equal(torch.as_tensor(joined[weight][name]), torch.as_tensor(values[name])) for name in values)


@pytest.mark.parametrize(("capturable", "device"), [(True, "meta"), (False, "cpu")])
def test_counts_of_steps_follow_the_weights_only_where_the_optimizer_reads_them_there(capturable, device):
    net = classifier(4, 3, updater=tl.Adam(0.01))
    fit(net)
    updater = functools.partial(torch.optim.Adam, capturable=capturable)
    other = classifier(4, 3, updater=updater).to("meta")
    Optimizers.of(other).restore(net.optimizers.state())
    states = Optimizers.of(other).state().values()
    assert {state["step"].device.type for state in states} == {device}
    assert {state["exp_avg"].device.type for state in states} == {"meta"}
