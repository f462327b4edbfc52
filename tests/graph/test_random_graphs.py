"""What holds for every network and every edit: random graphs of layers, random edits of them."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile

import pytest
import torch
from graphs import ROWS, data_for, edits, feeding, networks, reached, some_names
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from nets import apply, everything, furthest, moved, seeded, weights
from safetensors import safe_open

import tlkit as tl

pytestmark = [
    pytest.mark.slow,  # hundreds of graphs
    pytest.mark.filterwarnings("ignore:.*reaches single layers only", "ignore:.*stay random"),
]


def answers(net, x):
    """Every output by name, of the whole batch, without changing the network's mode."""
    was = net.training
    with torch.no_grad():
        found = net.eval()(x)
    net.train(was)
    return dict(zip(net.outputs, found if isinstance(found, tuple) else (found,), strict=True))


def assert_same_answers(one, other):
    x, _ = data_for(one)
    first, second = answers(one, x), answers(other, x)
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def train(net, steps=1):
    """Some steps on half a batch each, from the same random numbers every time."""
    with seeded(11):
        history = tl.fit(net, data_for(net), steps, ROWS // 2, max_iterations=steps, progress=False)
    return history.losses


def assert_trains_on_alike(one, other, steps=2):
    assert train(one, steps) == train(other, steps)
    assert furthest(weights(one), weights(other)) == 0


def trainable(net):
    return any(parameter.requires_grad for parameter in net.parameters())


# -- building -------------------------------------------------------------------------------------------------------


@given(networks(), st.data())
@settings(max_examples=20)
def test_a_build_leaves_the_original_as_it_was_to_the_last_bit(net, data):
    changes = data.draw(edits(net))
    before, tensors = everything(net), weights(net)
    built = apply(net, *changes)
    assert everything(net) == before
    assert furthest(weights(net), tensors) == 0
    if trainable(built):
        train(built)
        assert everything(net) == before
        assert furthest(weights(net), tensors) == 0


@given(networks(), st.data())
@settings(max_examples=20)
def test_kept_vertices_keep_their_weights_by_name_and_no_others_do(net, data):
    changes = data.draw(edits(net))
    built = apply(net, *changes)
    new = {edit[1] for edit in changes if edit[0].startswith("add_")}
    drawn = set().union(*(reached(net, edit[1]) for edit in changes if edit[0] == "n_out_replace"))
    before, after = weights(net), weights(built)
    assert list(after) == [f"{name}.{key}" for name, v in built.vertices.items() for key in v.module.state_dict()]
    for name in set(built.vertices) & set(net.vertices) - new - drawn:
        own = {key for key in before if key.startswith(f"{name}.")}
        assert own == {key for key in after if key.startswith(f"{name}.")}
        assert all(torch.equal(before[key], after[key]) for key in own)
    for name in (new | drawn) & set(net.vertices):
        key = f"{name}.weight"
        if key in before and before[key].ndim > 1 and key in after:
            assert not torch.equal(before[key], after[key])
    for _, name, width, *_ in (edit for edit in changes if edit[0] == "n_out_replace"):
        assert len(after[f"{name}.weight"]) == width


@given(networks(), st.data())
@settings(max_examples=20)
def test_output_shapes_are_those_of_a_real_run(net, data):
    for each in (net, apply(net, *data.draw(edits(net)))):
        shapes = each.output_shapes()
        assert list(shapes) == [*each.inputs, *each.vertices]
        every = tl.Network(each.vertices, each.input_shapes, list(each.vertices))
        found = answers(every, {name: torch.zeros(3, *shape) for name, shape in each.input_shapes.items()})
        assert {name: tuple(value.shape[1:]) for name, value in found.items()}.items() <= shapes.items()


@given(networks(), st.data())
@settings(max_examples=20)
def test_any_order_of_edits_builds_the_same_network(net, data):
    changes = data.draw(edits(net))
    one, other = apply(net, *changes), apply(net, *data.draw(st.permutations(changes)))
    assert list(one.vertices) == list(other.vertices)
    assert {**everything(one), "recipe": ""} == {**everything(other), "recipe": ""}  # which keeps the order
    assert furthest(weights(one), weights(other)) == 0
    assert str(one.summary()) == str(other.summary())
    assert_same_answers(one, other)


@given(networks(), st.data())
@settings(max_examples=20)
def test_frozen_is_what_feeds_the_boundaries_and_nothing_else(net, data):
    changes = data.draw(edits(net))
    built = apply(net, *changes)
    boundary = next((edit[1:] for edit in changes if edit[0] == "set_feature_extractor"), None)
    if boundary is not None:
        assert built.frozen == set(feeding(built.vertices, list(boundary)))
        assert not built.passing
    for name, vertex in built.vertices.items():
        assert all(p.requires_grad == (name not in built.frozen) for p in vertex.module.parameters())
        if name in built.frozen and name not in built.passing:
            assert set(feeding(built.vertices, [name])) <= built.frozen
    if trainable(built):
        before = weights(built)
        train(built)
        assert not moved(built, before) & built.frozen


# -- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("networks") / "network.tlk"


@given(networks(), st.data())
@settings(max_examples=20)
def test_a_loaded_network_answers_and_trains_on_like_the_saved_one(path, net, data):
    built = apply(net, *data.draw(edits(net)))
    built.seed = 3
    if trainable(built):
        train(built, 2)
    tl.save(built, path)
    loaded = tl.load(path, source=net)
    assert everything(loaded) == everything(built.eval())
    assert furthest(weights(loaded), weights(built)) == 0
    assert_same_answers(built, loaded)
    if trainable(built):
        built.optimizers = None  # the file did not hold their state: for it that training is over
        if over := built.fresh - loaded.fresh:
            built.mark_learned(*over)
        assert_trains_on_alike(built, loaded)


@given(networks(), st.data())
@settings(max_examples=20)
def test_with_the_updaters_state_training_goes_on_as_if_it_had_not_been_interrupted(path, net, data):
    built = apply(net, *data.draw(edits(net)))
    assume(trainable(built))
    train(built, 3)
    tl.save(built, path, updater_state=True)
    loaded = tl.load(path, source=net)
    assert_trains_on_alike(built, loaded)


@given(networks(), st.data())
@settings(max_examples=20)
def test_files_hold_tensors_and_plain_text_and_nothing_is_pickled(path, net, data):
    built = apply(net, *data.draw(edits(net)))
    if trainable(built):
        train(built)

    def refuse(*arguments, **options):
        raise AssertionError("pickled")

    with pytest.MonkeyPatch.context() as patch:
        for module, names in ((pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")),
                              (torch, ("save", "load"))):  # fmt: skip
            for name in names:
                patch.setattr(module, name, refuse)
        tl.save(built, path, updater_state=True)
        tl.load(path, source=net)
    assert not zipfile.is_zipfile(path)
    with safe_open(path, framework="pt") as file:
        assert json.loads(file.metadata()["tlkit"])
        assert set(file.keys()) >= set(built.state_dict())


# -- copies and places ----------------------------------------------------------------------------------------------


@given(networks(), st.data())
@settings(max_examples=20)
def test_a_deep_copy_is_equal_and_independent(net, data):
    built = apply(net, *data.draw(edits(net)))
    if trainable(built):
        train(built)
    twin = copy.deepcopy(built)
    assert everything(twin) == everything(built)
    assert_same_answers(built, twin)
    before = weights(built)
    if trainable(built):
        train(twin)
        assert furthest(weights(built), before) == 0
        train(built)  # the updaters' state was copied too
    assert furthest(weights(built), weights(twin)) == 0
    with torch.no_grad():
        for value in twin.state_dict().values():
            value.zero_()
    if trainable(built):
        assert furthest(weights(built), weights(twin)) > 0


@given(networks(), st.data())
@settings(max_examples=20)
def test_a_network_moves_to_another_type_and_back_unchanged(net, data):
    built = apply(net, *data.draw(edits(net)))
    before, tensors, original = everything(built), weights(built), weights(net)
    shapes, x = built.output_shapes(), data_for(built)[0]
    expected = answers(built, x)
    built.to(torch.float64)
    assert built.output_shapes() == shapes
    x = {name: value.double() for name, value in x.items()}
    for name, value in answers(built, x).items():
        assert value.dtype == torch.float64
        assert torch.allclose(value.float(), expected[name], rtol=1e-3, atol=1e-4)
    again = tl.TransferLearning(built).build()
    assert {value.dtype for value in again.parameters()} == {torch.float64}
    built.to(torch.float32)
    assert everything(built) == before
    assert furthest(weights(built), tensors) == 0
    assert furthest(weights(net), original) == 0


@given(networks(), st.data())
@settings(max_examples=20)
def test_a_copy_moves_to_shapes_alone_and_stays_the_same_network(net, data):
    built = apply(net, *data.draw(edits(net)))
    bare = copy.deepcopy(built).to("meta")
    assert all(value.is_meta for value in bare.state_dict().values())
    assert everything(bare) == everything(built)
    assert bare.output_shapes() == built.output_shapes()
    assert str(bare.summary()) == str(built.summary())
    filled = bare.to_empty(device="cpu")
    filled.load_state_dict(built.state_dict())
    assert_same_answers(built, filled)


# -- the identity ---------------------------------------------------------------------------------------------------


@given(networks(marked=False), st.data())
@settings(max_examples=30)
def test_training_on_features_is_training_the_whole_network(net, data):
    changes = [edit for edit in data.draw(edits(net)) if edit[0] != "set_feature_extractor"]
    boundary = data.draw(some_names(apply(net, *changes).vertices))
    whole, parts = (apply(net, *[*changes, ("set_feature_extractor", *boundary)]) for _ in range(2))
    assume(trainable(whole))
    x, labels = data_for(whole)
    options = {"epochs": 2, "batch_size": ROWS, "shuffle": False, "progress": False}
    with seeded(13):
        history = tl.fit(whole, (x, labels), **options)
    helper = tl.TransferLearningHelper(parts)
    assert helper.unfrozen_network.inputs == parts.boundary()
    features = helper.featurize(x, progress=False)
    with seeded(13):
        featurized = helper.fit_featurized((features, labels), **options)
    assert featurized.losses == pytest.approx(history.losses, abs=1e-5)
    assert furthest(weights(whole), weights(parts)) <= 1e-5
    assert not moved(parts, weights(apply(net, *[*changes, ("set_feature_extractor", *boundary)]))) & parts.frozen
