from __future__ import annotations

import copy
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import (
    apply,
    blobs,
    classifier,
    everything,
    furthest,
    moved,
    narrow_vgg16,
    pictures,
    seeded,
    weights,
)

import tlkit as tl

TUNING = tl.FineTuneConfiguration(updater=tl.Nesterovs(5e-5, 0.9), seed=12345)


# -- order of calls -------------------------------------------------------------------------------------------------


EDITS = [
    ("fine_tune_configuration", tl.FineTuneConfiguration(l2=0.1, dropout=0.25, weight_init="relu", seed=7)),
    ("set_feature_extractor", "block4_pool"),
    ("n_out_replace", "fc1", 20, "lecun", "xavier"),
    ("n_out_replace", "fc2", 9),
    ("n_in_replace", "block5_conv1", 8, "uniform"),
    ("remove_vertex_keep_connections", "predictions"),
    ("remove_vertex_and_connections", "block5_conv3"),
    ("add_layer", "extra", tl.Conv2d(8, 3, padding="same", activation="relu"), "block5_conv2"),
    ("remove_vertex_keep_connections", "block5_pool"),
    ("add_vertex", "block5_pool", tl.Pool2d(), "extra"),
    ("add_layer", "predictions", tl.Dense(5, activation="tanh"), "fc2"),
    ("add_layer", "side", tl.Dense(3), "flatten", "fc1"),
    ("add_vertex", "both", tl.Merge(), "predictions", "side"),
    ("add_layer", "answer", tl.Output(4), "both"),
    ("set_outputs", "answer"),
]


@pytest.fixture(scope="module")
def edited(vgg):
    return apply(vgg, *EDITS)


@pytest.mark.slow
@settings(max_examples=10)
@given(st.permutations(EDITS))
def test_any_order_of_calls_builds_the_same_network(vgg, edited, edits):
    other = apply(vgg, *edits)
    assert list(edited.vertices) == list(other.vertices)
    assert {**everything(edited), "recipe": ""} == {**everything(other), "recipe": ""}  # which keeps the order
    assert furthest(weights(edited), weights(other)) == 0
    x, _ = pictures(2)
    assert torch.equal(edited(x), other(x))


def test_the_same_builder_builds_equal_but_separate_networks_again(vgg):
    builder = tl.TransferLearning(vgg).fine_tune_configuration(TUNING).n_out_replace("fc2", 9)
    one, other = builder.build(), builder.build()
    before = weights(other)
    assert furthest(weights(one), before) == 0
    with torch.no_grad():
        for weight in one.parameters():
            weight.add_(1)
    assert furthest(before, weights(other)) == 0


def test_new_weights_depend_on_the_seed_and_on_nothing_else(vgg):
    def head(seed, *, draw_before):
        if draw_before:
            torch.rand(5)
        builder = tl.TransferLearning(vgg).fine_tune_configuration(tl.FineTuneConfiguration(seed=seed))
        net = builder.remove_vertex_keep_connections("predictions").add_layer("predictions", tl.Dense(5), "fc2").build()
        return net.vertices["predictions"].module.weight

    assert torch.equal(head(1, draw_before=False), head(1, draw_before=True))
    assert not torch.equal(head(1, draw_before=False), head(2, draw_before=False))


def test_building_leaves_the_random_numbers_of_the_caller_alone(vgg):
    with seeded(5):
        apply(vgg, *EDITS)
        after = torch.rand(3)
    with seeded(5):
        assert torch.equal(after, torch.rand(3))


def test_a_later_call_that_sets_something_replaces_the_earlier_one(vgg):
    builder = tl.TransferLearning(vgg).set_feature_extractor("fc2").set_feature_extractor("block1_pool")
    builder.fine_tune_configuration(tl.FineTuneConfiguration(l2=1.0)).fine_tune_configuration(TUNING)
    net = builder.build()
    assert net.frozen == net.ancestors("block1_pool")
    assert net.vertices["fc2"].settings.l2 == 0
    assert net.vertices["fc2"].settings.updater == tl.Nesterovs(5e-5, 0.9)


def test_a_build_warns_about_nothing_without_reason(vgg):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(vgg, *EDITS)


def test_a_recipe_is_plain_data_and_builds_the_same_again(vgg, edited):
    recipe = json.loads(json.dumps(edited.recipe))
    again = tl.TransferLearning.replay(vgg, recipe["edits"][-1])
    assert furthest(weights(edited), weights(again)) == 0
    assert json.loads(json.dumps(again.recipe)) == recipe


# -- the original ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_a_build_leaves_the_original_as_it_was(training):
    net = narrow_vgg16(batch_norm=True).freeze("block2_pool").train(training)
    net.seed, net.classes = 3, tuple("abcdefghij")
    net.vertices["fc1"].module.bias.requires_grad_(False)
    before, tensors = everything(net), weights(net)
    apply(net, *EDITS)
    assert everything(net) == before
    assert furthest(weights(net), tensors) == 0


def test_a_build_without_edits_is_an_equal_copy():
    net = narrow_vgg16(batch_norm=True).freeze("block2_pool").train()
    net.seed = 3
    built = tl.TransferLearning(net).build()
    assert {**everything(built), "recipe": ""} == {**everything(net), "recipe": ""}  # which tells of the build
    assert furthest(weights(built), weights(net)) == 0


def test_a_build_that_fails_leaves_the_network_as_it_was_and_fails_again():
    net = classifier(4, 5, 3)
    net.freeze("0")
    before = weights(net)
    builder = tl.TransferLearning(net).n_out_replace("0", 9)
    builder.remove_vertex_keep_connections("1")
    for _ in range(2):
        with pytest.raises(ValueError, match="'1' was removed with its connections kept"):
            builder.build()
        assert furthest(weights(net), before) == 0
        assert net.frozen == {"0"}
        assert [p.requires_grad for p in net.parameters()] == [False, False, True, True]
    assert builder.add_layer("1", tl.Output(2), "0").build().vertices["0"].module.out_features == 9


# -- state of the updaters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("updater", [tl.Adam(0.05), tl.Nesterovs(0.05, 0.9)], ids=["adam", "nesterovs"])
def test_a_build_starts_with_new_updaters_and_leaves_those_of_the_original_running(updater):
    net = classifier(4, 6, 3, updater=updater)
    tl.fit(net, blobs(), epochs=3, shuffle=False, progress=False)
    undisturbed = copy.deepcopy(net)
    built = tl.TransferLearning(net).build()
    assert built.optimizers is None

    fresh = copy.deepcopy(net)
    fresh.optimizers = None
    for each in (built, fresh, net, undisturbed):
        tl.fit(each, blobs(), epochs=2, shuffle=False, progress=False)
    assert furthest(weights(built), weights(fresh)) == 0
    assert furthest(weights(net), weights(undisturbed)) == 0
    assert furthest(weights(net), weights(built)) > 1e-4, "what the updaters remember makes a difference"


@pytest.mark.parametrize("updater", [tl.Adam(0.05), tl.Nesterovs(0.05, 0.9)], ids=["adam", "nesterovs"])
def test_updaters_of_a_built_network_and_of_its_helper_go_on_between_calls(updater):
    def build():
        return tl.TransferLearning(classifier(4, 6, 6, 3, updater=updater)).set_feature_extractor("0").build()

    options = {"batch_size": 8, "shuffle": False, "progress": False}
    at_once, in_calls, helped, features = build(), build(), build(), []
    tl.fit(at_once, blobs(), epochs=4, **options)
    helper = tl.TransferLearningHelper(helped)
    features = helper.featurize(blobs(), progress=False)
    for _ in range(4):
        tl.fit(in_calls, blobs(), epochs=1, **options)
        helper.fit_featurized(features, epochs=1, **options)
    assert furthest(weights(at_once), weights(in_calls)) == 0
    assert furthest(weights(at_once), weights(helped)) <= 1e-6


def test_a_new_boundary_in_place_keeps_what_the_updaters_remember_and_a_build_does_not():
    def trained():
        net = classifier(4, 6, 6, 3, updater=tl.Adam(0.05))
        tl.fit(net, blobs(), epochs=2, shuffle=False, progress=False)
        return net

    in_place = trained().freeze("0")
    built = tl.TransferLearning(trained()).set_feature_extractor("0").build()
    for net in (in_place, built):
        tl.fit(net, blobs(), shuffle=False, progress=False)
    assert in_place.frozen == built.frozen
    steps = {net: {int(state["step"]) for state in net.optimizers.state().values()} for net in (in_place, built)}
    assert steps == {in_place: {3}, built: {1}}


# -- the documentation page -----------------------------------------------------------------------------------------


def edit_the_last_layer(net):
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(TUNING)
        .set_feature_extractor("fc2")
        .remove_vertex_keep_connections("predictions")
        .add_layer("predictions", tl.Output(n_out=5, weight_init="xavier"), "fc2")
        .build()
    )


def attach_at_the_bottleneck(net, fc2=1024, fc3=256):
    return (
        tl.TransferLearning(net)
        .fine_tune_configuration(TUNING)
        .set_feature_extractor("block5_pool")
        .n_out_replace("fc2", fc2, "xavier")
        .remove_vertex_and_connections("predictions")
        .add_layer("fc3", tl.Dense(n_out=fc3, activation="relu"), "fc2")
        .add_layer("newpredictions", tl.Output(n_out=5), "fc3")
        .set_outputs("newpredictions")
        .build()
    )


@pytest.fixture(scope="module")
def vgg16():
    with torch.device("meta"):
        return tl.zoo.load("vgg16", weights=None)


CONVOLUTIONS = 14_714_688


FC1 = 25_088 * 4_096 + 4_096


def test_iii_a_on_the_structure_of_vgg16(vgg16):
    with torch.device("meta"):
        net = edit_the_last_layer(vgg16)
    summary = net.summary()
    assert summary.trainable == 4_096 * 5 + 5
    assert summary.frozen == 138_357_544 - (4_096 * 1_000 + 1_000)
    assert net.output_shapes()["predictions"] == (5,)
    assert list(net.vertices) == list(vgg16.vertices)
    assert set(net.vertices) - net.frozen == {"predictions"}
    assert net.vertices["predictions"].settings.updater == tl.Nesterovs(5e-5, 0.9)
    assert net.seed == 12345


def test_iii_b_on_the_structure_of_vgg16(vgg16):
    with torch.device("meta"):
        net = attach_at_the_bottleneck(vgg16)
    shapes = net.output_shapes()
    assert [shapes[name] for name in ("flatten", "fc1", "fc2", "fc3", "newpredictions")] == [
        (25_088,),
        (4_096,),
        (1_024,),
        (256,),
        (5,),
    ]
    summary = net.summary()
    assert summary.frozen == CONVOLUTIONS
    assert summary.trainable == FC1 + (4_096 * 1_024 + 1_024) + (1_024 * 256 + 256) + (256 * 5 + 5)
    assert net.outputs == ("newpredictions",)
    assert "predictions" not in net.vertices
    assert net.frozen == {name for name in vgg16.vertices if name.startswith("block")}


def test_iii_c_on_the_structure_of_vgg16(vgg16):
    with torch.device("meta"):
        before = attach_at_the_bottleneck(vgg16)
        net = tl.TransferLearning(before).set_feature_extractor("block4_pool").build()
    block5 = sum(p.numel() for name, p in net.named_parameters() if name.startswith("block5"))
    assert block5 == 3 * (512 * 512 * 9 + 512)
    assert net.summary().frozen == CONVOLUTIONS - block5
    assert net.summary().trainable == before.summary().trainable + block5


def test_iii_a_trains_the_new_last_layer_only(vgg):
    net = edit_the_last_layer(vgg)
    before = weights(net)
    tl.fit(net, pictures(), batch_size=4, progress=False)
    assert moved(net, before) == {"predictions"}
    assert net.vertices["predictions"].module.activation is not None
    assert torch.allclose(net(pictures(2)[0]).sum(1), torch.ones(2))


def test_iii_b_keeps_fc1_draws_fc2_and_trains_all_behind_the_bottleneck(vgg):
    net = attach_at_the_bottleneck(vgg, fc2=10, fc3=6)
    kept = {name: value for name, value in weights(vgg).items() if not name.startswith(("fc2", "predictions"))}
    assert all(torch.equal(net.state_dict()[name], value) for name, value in kept.items())
    before = weights(net)
    tl.fit(net, pictures(), batch_size=4, progress=False)
    assert moved(net, before) == {"fc1", "fc2", "fc3", "newpredictions"}


@pytest.mark.slow
@pytest.mark.parametrize("batch_norm", [False, True])
def test_iii_c_trains_block_5_after_a_reload_and_leaves_block_4_with_its_statistics(batch_norm, tmp_path):
    source = narrow_vgg16(batch_norm=batch_norm)
    net = attach_at_the_bottleneck(source, fc2=10, fc3=6)
    tl.fit(net, pictures(), batch_size=4, progress=False)
    tl.save(net, tmp_path / "flowers.tlk")

    loaded = tl.load(tmp_path / "flowers.tlk", source)
    assert loaded.frozen == net.frozen
    assert furthest(weights(net), weights(loaded)) == 0
    tuned = (
        tl.TransferLearning(loaded)
        .fine_tune_configuration(tl.FineTuneConfiguration(updater=tl.Sgd(1e-2), seed=12345))
        .set_feature_extractor("block4_pool")
        .build()
    )
    before = weights(tuned)
    tl.fit(tuned, pictures(), batch_size=4, progress=False)
    block5 = {"block5_conv1", "block5_conv2", "block5_conv3"}
    assert moved(tuned, before) == block5 | {"fc1", "fc2", "fc3", "newpredictions"}
    changed = {name for name, value in before.items() if not torch.equal(value, tuned.state_dict()[name])}
    statistics = {name for name in before if name.endswith(("running_mean", "running_var"))}
    assert {name for name in statistics if name.startswith("block5")} <= changed
    assert not {name for name in changed if name.startswith(("block1", "block2", "block3", "block4"))}
    assert bool(statistics) == batch_norm
    assert furthest(weights(net), weights(loaded)) == 0


# -- arguments that cannot be meant ---------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [0, -3, 2.5, "5", None])
@pytest.mark.parametrize(("call", "name"), [("n_out_replace", "n_out"), ("n_in_replace", "n_in")])
def test_a_width_that_is_none_is_refused_when_it_is_given(vgg, call, name, width):
    with pytest.raises(ValueError, match=f"{name} is a whole number, 1 or more, got {width!r}"):
        getattr(tl.TransferLearning(vgg), call)("fc1", width)


SHARED = torch.nn.Linear(12, 12)


@pytest.mark.parametrize(
    ("edit", "error", "sentence"),
    [
        (
            ("set_feature_extractor", ["fc2"]),
            TypeError,
            r"names one by one: set_feature_extractor\('fc2'\), got",
        ),
        (("set_feature_extractor", None), TypeError, "takes names one by one, got None"),
        (("set_outputs",), ValueError, "set_outputs needs at least one vertex, got none"),
        (
            ("add_layer", "q", tl.Dense, "fc2"),
            TypeError,
            r"class Dense. Write it with its arguments: tl.Dense\(",
        ),
        (("add_layer", "q", "relu", "fc2"), TypeError, r"a description such as tl.Dense\(256\).*got 'relu'"),
        (("add_vertex", "q", None, "fc2"), TypeError, "got None"),
        (("add_layer", 3, tl.Dense(5), "fc2"), TypeError, "named by a text, got 3"),
        (("add_layer", "q", SHARED, "fc2"), ValueError, "'q' was given the same module as 'first'.*deepcopy"),
        (
            ("add_layer", "q", torch.nn.Sequential(SHARED), "fc2"),
            ValueError,
            "'q' was given the same module as 'first'",
        ),
        (("fine_tune_configuration", tl.Adam()), TypeError, r"takes a tl.FineTuneConfiguration.*got Adam\(lr=0.001"),
        (("set_inputs", [(3, 32, 32)]), TypeError, "takes the shape of one example by name"),
        (("set_inputs", {"x": 5}), ValueError, r"The shape of input 'x' is whole numbers above 0.*got 5"),
        (("set_inputs", {"x": (3, 0, 4)}), ValueError, r"got \(3, 0, 4\)"),
    ],
)
def test_an_argument_that_cannot_be_meant_is_refused_when_it_is_given(vgg, edit, error, sentence):
    builder = tl.TransferLearning(vgg).add_layer("first", SHARED, "fc2")
    call, *arguments = edit
    with pytest.raises(error, match=sentence):
        getattr(builder, call)(*arguments)
    assert len(builder.edits) == 1, "what was refused is not recorded"


def test_one_description_may_be_given_twice(vgg):
    dense = tl.Dense(5)
    net = tl.TransferLearning(vgg).add_layer("one", dense, "fc2").add_layer("two", dense, "one")
    net = net.set_outputs("predictions", "two").build()
    assert net.vertices["one"].module.weight.shape != net.vertices["two"].module.weight.shape
