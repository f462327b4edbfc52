import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import blobs, chain, classifier, narrow_vgg16, pictures
from torch import nn

import tlkit as tl
from tlkit.layers.activations import ACTIVATIONS
from tlkit.layers.initializers import SCHEMES
from tlkit.layers.options import GRADIENT_NORMALIZATIONS, UNSET, Options, Settings
from tlkit.tuning import FineTuneConfiguration

# option -> a value, another value, and what is there once it was removed
TRAINING = {
    "updater": (tl.Sgd(0.1), tl.Adam(0.2), None),
    "bias_updater": (tl.Sgd(0.3), tl.Adam(0.4), None),
    "l1": (0.1, 0.2, 0.0),
    "l2": (0.3, 0.4, 0.0),
    "weight_decay": (0.5, 0.6, 0.0),
    "l1_bias": (0.1, 0.2, 0.0),
    "l2_bias": (0.3, 0.4, 0.0),
    "weight_decay_bias": (0.5, 0.6, 0.0),
    "gradient_normalization": ("clip_value", "renormalize_per_layer", None),
    "gradient_normalization_threshold": (2.0, 3.0, 1.0),
    "constraints": ((tl.MaxNorm(1.0),), (tl.NonNegative(), tl.UnitNorm()), ()),
    "fixed_statistics": (True, False, None),
}
FORWARD = {
    "activation": ("tanh", "elu", None),
    "dropout": (0.25, 0.5, None),
    "weight_noise": (tl.DropConnect(0.25), tl.DropConnect(0.5), None),
}
STATES = TRAINING | FORWARD
PENALTIES = ("l1", "l2", "weight_decay", "l1_bias", "l2_bias", "weight_decay_bias")


def tuned(net, **options):
    return tl.TransferLearning(net).fine_tune_configuration(FineTuneConfiguration(**options)).build()


def found(net, option, name="0"):
    vertex = net.vertices[name]
    if option == "dropout":
        return None if vertex.module.dropout is None else vertex.module.dropout.p
    if option == "activation":
        kinds = {type(make()): name for name, make in ACTIVATIONS.items()}
        return None if vertex.module.activation is None else kinds[type(vertex.module.activation)]
    return vertex.module.weight_noise if option == "weight_noise" else getattr(vertex.settings, option)


@pytest.mark.parametrize("option", STATES)
def test_an_option_that_is_left_out_keeps_what_the_layer_has(option):
    first, _, _ = STATES[option]
    others = {name: second for name, (_, second, _) in STATES.items() if name != option}
    net = tuned(chain(4, 5, 3), **{option: first})
    assert found(net, option) == first
    assert found(tuned(net, **others), option) == first
    assert found(tl.TransferLearning(net).build(), option) == first


@pytest.mark.parametrize("option", STATES)
def test_none_removes_an_option(option):
    first, _, removed = STATES[option]
    net = tuned(chain(4, 5, 3), **{option: first})
    assert found(tuned(net, **{option: None}), option) == removed


@pytest.mark.parametrize("option", STATES)
def test_a_value_replaces_an_option_and_nothing_else(option):
    first, second, _ = STATES[option]
    net = tuned(chain(4, 5, 3), **{name: values[0] for name, values in STATES.items()})
    after = tuned(net, **{option: second})
    assert found(after, option) == second
    for other in STATES.keys() - {option}:
        assert found(after, other) == found(net, other)
    assert found(net, option) == first


@pytest.mark.parametrize(("option", "removed"), [("dropout", None), *((name, 0.0) for name in PENALTIES)])
def test_zero_removes_as_none_does(option, removed):
    net = tuned(chain(4, 5, 3), **{option: 0.5})
    assert found(tuned(net, **{option: 0}), option) == removed


def test_identity_removes_an_activation():
    assert found(tuned(chain(4, 5, 3), activation="identity"), "activation") is None


def test_weight_and_bias_init_leave_existing_weights_alone():
    net = chain(4, 5, 3)
    after = tuned(net, weight_init="zero", bias_init=3.0)
    for name, value in net.state_dict().items():
        assert torch.equal(after.state_dict()[name], value)


def new_layer(options, own):
    builder = tl.TransferLearning(chain(4, 5, 3)).fine_tune_configuration(FineTuneConfiguration(seed=1, **options))
    return builder.add_layer("new", tl.Dense(200, **own), "0").set_outputs("new", "1").build()


@pytest.mark.parametrize(
    ("configured", "own", "std", "bias"),
    [
        ({}, {}, (2 / 205) ** 0.5, 0.0),  # xavier
        ({"weight_init": None, "bias_init": None}, {}, (2 / 205) ** 0.5, 0.0),
        ({"weight_init": "relu", "bias_init": 0.5}, {}, (2 / 5) ** 0.5, 0.5),
        ({"weight_init": "relu", "bias_init": 0.5}, {"weight_init": tl.Normal(0, 3), "bias_init": 2}, 3.0, 2.0),
        ({"weight_init": "relu", "bias_init": 0.5}, {"weight_init": None, "bias_init": None}, (2 / 205) ** 0.5, 0.0),
    ],
    ids=["default", "none", "configured", "own", "own-none"],
)
def test_new_weights_are_drawn_as_the_layer_says_then_the_configuration_then_xavier(configured, own, std, bias):
    layer = new_layer(configured, own).vertices["new"].module
    assert layer.weight.std().item() == pytest.approx(std, rel=0.1)
    assert torch.equal(layer.bias, torch.full_like(layer.bias, bias))


@pytest.mark.parametrize("option", sorted(STATES.keys() - {"activation"}))
def test_a_new_layer_takes_its_own_option_then_the_configuration_then_the_default(option):
    first, second, removed = STATES[option]
    assert found(new_layer({}, {}), option, "new") == removed
    assert found(new_layer({option: first}, {}), option, "new") == first
    assert found(new_layer({option: first}, {option: second}), option, "new") == second
    assert found(new_layer({option: first}, {option: None}), option, "new") == removed


def test_the_activation_of_a_new_hidden_layer_follows_the_same_order():
    def hidden(options, **own):
        builder = tl.TransferLearning(chain(4, 5, 3)).fine_tune_configuration(FineTuneConfiguration(**options))
        builder.add_layer("new", tl.Dense(6, **own), "0").add_layer("end", tl.Output(2), "new")
        return found(builder.set_outputs("end", "1").build(), "activation", "new")

    assert hidden({}) is None
    assert hidden({"activation": "tanh"}) == "tanh"
    assert hidden({"activation": "tanh"}, activation="elu") == "elu"
    assert hidden({"activation": "tanh"}, activation=None) is None


def test_the_activation_never_reaches_an_output():
    old = tuned(chain(4, 5, 3), activation="tanh")
    assert (found(old, "activation", "0"), found(old, "activation", "1")) == ("tanh", None)

    assert found(new_layer({"activation": "tanh"}, {}), "activation", "new") is None

    builder = tl.TransferLearning(old).add_layer("end", tl.Output(3), "0").set_outputs("end")
    answering = tuned(builder.remove_vertex_and_connections("1").build(), activation="relu")
    assert found(answering, "activation", "end") == "softmax"
    inner = tl.TransferLearning(answering).add_layer("more", tl.Output(2), "end").set_outputs("more").build()
    assert found(tuned(inner, activation="relu"), "activation", "end") == "softmax"


@pytest.mark.slow
def test_what_frozen_vertices_compute_is_never_touched():
    net = narrow_vgg16()
    everything = {name: second for name, (_, second, _) in STATES.items()}
    after = (
        tl.TransferLearning(net)
        .fine_tune_configuration(FineTuneConfiguration(weight_init="zero", bias_init=1.0, **everything))
        .set_feature_extractor("fc1")
        .build()
    )
    for name in after.frozen:
        assert str(after.vertices[name].module) == str(net.vertices[name].module)
    assert found(after, "weight_noise", "fc1") is None
    assert found(after, "activation", "fc2") == "elu"
    x, _ = pictures(2)
    assert torch.equal(after.split()[0](x), front(net, "fc1")(x))


def test_what_is_unfrozen_later_trains_as_the_configuration_says():
    after = tl.TransferLearning(chain(4, 5, 3)).fine_tune_configuration(
        FineTuneConfiguration(updater=tl.Sgd(0.1), l2=0.5)
    )
    net = after.set_feature_extractor("0").build()
    assert found(net, "updater") == tl.Sgd(0.1)
    assert found(net.unfreeze("0"), "l2") == 0.5


def front(net, boundary):
    return tl.TransferLearning(net).set_feature_extractor(boundary).build().split()[0]


def test_a_vertex_frozen_in_the_original_computes_what_it_did():
    net = chain(4, 5, 6, 3).freeze("0")
    after = tuned(net, l2=0.5, dropout=0.5, activation="tanh")
    assert found(after, "l2", "0") == 0.5
    assert found(after, "dropout", "0") is None
    assert found(after, "activation", "0") == "relu"
    assert found(after, "l2", "1") == 0.5


def test_blocks_that_dropout_cannot_reach_are_named():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return x + self.second(self.first(x))

    net = tl.Network.from_module(nn.Sequential(Block(), nn.Linear(4, 2)), [torch.zeros(1, 4)])
    with pytest.warns(UserWarning, match=r"'dropout' .* reaches single layers only, not the blocks '0'.*granularity"):
        after = tuned(net, dropout=0.5)
    assert found(after, "dropout", "1") == 0.5


def test_the_seed_is_kept_unless_it_is_replaced():
    net = tuned(chain(4, 5, 3), seed=7)
    assert net.seed == 7
    assert tuned(net, l2=0.1).seed == 7
    assert tuned(net, seed=8).seed == 8


# -- batch normalization --------------------------------------------------------------------------------------------


def test_fixed_statistics_are_used_and_kept_while_scale_and_shift_train():
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU())
    net = tl.Network.from_module(nn.Sequential(block, nn.Linear(4, 3)), torch.zeros(1, 4))
    with torch.no_grad():
        net.vertices["0_0"].module.norm.running_mean.fill_(0.5)
    edits = tl.TransferLearning(net).fine_tune_configuration(
        FineTuneConfiguration(updater=tl.Sgd(0.1), fixed_statistics=True, seed=1)
    )
    fixed = edits.add_layer("answer", tl.Loss()).build()
    before = {name: value.clone() for name, value in fixed.state_dict().items()}
    x, labels = blobs()
    assert torch.equal(fixed.train()(x), fixed.eval()(x))
    tl.fit(fixed, (x, labels), epochs=2, progress=False)
    after = fixed.state_dict()
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(after[f"0_0.norm.{name}"], before[f"0_0.norm.{name}"])
    for name in ("norm.weight", "norm.bias", "weight"):
        assert not torch.equal(after[f"0_0.{name}"], before[f"0_0.{name}"])


@pytest.mark.slow
def test_fixed_statistics_reach_the_norms_inside_of_blocks():
    net = tl.zoo.load("timm/test_resnet", weights=None)
    fixed = tl.TransferLearning(net).fine_tune_configuration(FineTuneConfiguration(fixed_statistics=True)).build()
    norms = [part for part in fixed.train().modules() if hasattr(part, "running_mean")]
    assert norms
    assert not any(part.training for part in norms)
    assert all(part.training for part in fixed.modules() if isinstance(part, nn.Conv2d))


# -- other updaters for some vertices -------------------------------------------------------------------------------

SLOW, FAST, OWN = tl.Adam(1e-5), tl.Adam(1e-3), tl.Sgd(0.5)


def updaters_of(net):
    return {name: vertex.settings.updater for name, vertex in net.vertices.items()}


def test_updaters_by_vertex_come_before_the_updater_and_the_last_pattern_counts():
    net = narrow_vgg16()
    found = updaters_of(tuned(net, updater=FAST, updaters={"block*": OWN, "block5_*": SLOW}))
    assert {found[name] for name in found if name.startswith("block5")} == {SLOW}
    assert {found[name] for name in found if name.startswith(("block1", "block4"))} == {OWN}
    assert found["fc1"] == FAST


def test_updaters_by_vertex_reach_new_layers_but_their_own_updater_wins():
    def built(**own):
        edits = tl.TransferLearning(chain(4, 5, 3)).fine_tune_configuration(
            FineTuneConfiguration(updater=FAST, updaters={"new*": SLOW})
        )
        return updaters_of(edits.add_layer("new", tl.Dense(2, **own), "0").set_outputs("new", "1").build())

    assert built() == {"0": FAST, "1": FAST, "new": SLOW}
    assert built(updater=OWN)["new"] == OWN


def test_updaters_by_vertex_keep_what_no_pattern_names():
    net = tuned(chain(4, 5, 3), updater=OWN)
    assert updaters_of(tuned(net, updaters={"1": SLOW})) == {"0": OWN, "1": SLOW}


def test_layers_with_smaller_learning_rates_move_less():
    net = tuned(classifier(4, 8, 8, 3), updater=tl.Sgd(0.1), updaters={"0": tl.Sgd(0.0), "1": tl.Sgd(1e-3)})
    same = tuned(classifier(4, 8, 8, 3), updater=tl.Sgd(0.1))
    for one in (net, same):
        tl.fit(one, blobs(), batch_size=24, progress=False)
    start = classifier(4, 8, 8, 3).state_dict()

    def step(one, name):
        return (one.state_dict()[name] - start[name]).norm()

    assert step(net, "0.weight") == 0
    assert float(step(net, "1.weight") / step(same, "1.weight")) == pytest.approx(0.01, rel=1e-3)
    assert torch.equal(net.state_dict()["2.weight"], same.state_dict()["2.weight"])


def test_a_pattern_that_names_no_vertex_is_an_error():
    with pytest.raises(
        KeyError, match=r"The updaters name 'blok5_\*', and no vertex is called so\. Did you mean 'block5"
    ):
        tuned(narrow_vgg16(), updaters={"blok5_*": SLOW})


def test_dotted_patterns_mean_module_paths():
    net = tl.Network({"layer4_1": tl.Vertex(nn.Linear(2, 2), "x")}, {"x": (2,)}, "layer4_1")
    assert updaters_of(tuned(net, updaters={"layer4.*": SLOW})) == {"layer4_1": SLOW}


# -- as data --------------------------------------------------------------------------------------------------------

rates = st.floats(1e-6, 1.0)
updaters = st.one_of(
    st.builds(tl.Sgd, rates),
    st.builds(tl.Nesterovs, rates, st.floats(0.1, 0.99)),
    st.builds(tl.Adam, rates, st.tuples(st.floats(0, 0.99), st.floats(0, 0.99))),
    st.builds(tl.RmsProp, rates, st.floats(0.1, 0.99)),
)
inits = st.one_of(
    st.sampled_from(sorted(SCHEMES)),
    st.builds(tl.Normal, st.floats(-1, 1), st.floats(0.1, 1)),
    st.builds(tl.Uniform, st.floats(-1, 0), st.floats(0.1, 1)),
)
constraints = st.one_of(st.builds(tl.MaxNorm, st.floats(0.1, 10)), st.just(tl.UnitNorm()), st.just(tl.NonNegative()))
configurations = st.fixed_dictionaries(
    {},
    optional={
        "activation": st.none() | st.sampled_from(sorted(ACTIVATIONS)),
        "weight_init": st.none() | inits,
        "bias_init": st.none() | st.floats(-1, 1),
        "dropout": st.none() | st.floats(0, 0.99),
        "updater": st.none() | updaters,
        **{name: st.none() | st.floats(0, 1) for name in PENALTIES},
        "bias_updater": st.none() | updaters,
        "weight_noise": st.none() | st.builds(tl.DropConnect, st.floats(0, 0.99)),
        "fixed_statistics": st.none() | st.booleans(),
        "constraints": st.none() | st.lists(constraints, max_size=3),
        "updaters": st.none() | st.dictionaries(st.sampled_from(["fc*", "block5_*", "[a-c]?"]), updaters),
        "gradient_normalization": st.none() | st.sampled_from(GRADIENT_NORMALIZATIONS),
        "gradient_normalization_threshold": st.none() | st.floats(0.1, 10),
        "seed": st.integers(0, 2**40),
    },
)


@pytest.mark.slow
@given(configurations)
def test_json_brings_back_the_same_configuration(options):
    tuning = FineTuneConfiguration(**options)
    back = FineTuneConfiguration.from_json(tuning.to_json())
    assert back == tuning
    assert back.given() == tuning.given()
    assert back.to_json() == tuning.to_json()
    assert back.updaters == tuning.updaters


def test_json_tells_removed_from_left_out():
    data = json.loads(FineTuneConfiguration(l2=None).to_json())
    assert data == {"seed": None, "l2": None}
    assert FineTuneConfiguration.from_dict(data).l1 is UNSET
    assert FineTuneConfiguration.from_dict(data).l2 is None


def test_it_prints_what_was_given_and_nothing_else():
    tuning = FineTuneConfiguration(updater=tl.Sgd(0.1), l2=None, seed=5)
    assert repr(tuning) == "FineTuneConfiguration(seed=5, updater=Sgd(lr=0.1), l2=None)"


# -- errors ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"l2": -0.1}, ValueError, "l2 must not be negative, got -0.1. Use 0 or None"),
        ({"l1": -1}, ValueError, "l1 must not be negative"),
        ({"weight_decay": -1}, ValueError, "weight_decay must not be negative"),
        ({"dropout": 1.0}, ValueError, "at least 0 and below 1, got 1.0"),
        ({"dropout": -0.5}, ValueError, "at least 0 and below 1"),
        ({"activation": "rleu"}, ValueError, "activation is one of relu, .*got 'rleu'. Did you mean 'relu'"),
        ({"weight_init": "xavir"}, ValueError, "got 'xavir'. Did you mean 'xavier'"),
        ({"gradient_normalization": "clip_values"}, ValueError, "Did you mean 'clip_value'"),
        ({"updater": "Adma"}, TypeError, r"tl.Adam\(lr=1e-3\).*got 'Adma'. Did you mean 'Adam"),
        ({"updaters": SLOW}, TypeError, "updaters gives updaters by vertex, such as .* got Adam"),
        ({"updaters": {"fc1": 0.1}}, TypeError, "An updater is one of Sgd, .*got 0.1"),
        ({"updater": 0.01}, TypeError, "An updater is one of Sgd, .*got 0.01"),
        ({"drop_out": 0.5}, TypeError, "has no option 'drop_out'. Did you mean 'dropout'?"),
        ({"learning_rate": 0.5}, TypeError, "The learning rate lives in the updater"),
    ],
)
def test_a_wrong_option_is_refused_at_once(options, error, text):
    with pytest.raises(error, match=text):
        FineTuneConfiguration(**options)


def test_a_layer_refuses_an_unknown_option_too():
    with pytest.raises(TypeError, match=r"Dense has no option 'n_units'.*The options are .*n_out"):
        tl.Dense(n_units=5)


def test_an_unknown_option_in_a_file_is_named():
    with pytest.raises(TypeError, match=r"has no option 'droput'. Did you mean 'dropout'.*The options are"):
        FineTuneConfiguration.from_json('{"droput": 0.5}')


def test_settings_of_options_only_change_what_was_given():
    before = Settings(l1=1.0, l2=2.0)
    assert Options().settings(before) == before
    assert Options(l1=None).settings(before) == Settings(l2=2.0)
    assert Options(l2=5.0).settings(before) == Settings(l1=1.0, l2=5.0)
