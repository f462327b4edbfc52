"""Corners of the builder and the helper that the tests of DL4J leave out."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from nets import blobs, chain, classifier, furthest, moved, seeded, weights
from torch import nn

import tlkit as tl
from tlkit.layers.options import Settings


def apply(net, *edits):
    builder = tl.TransferLearning(net)
    for method, *arguments in edits:
        getattr(builder, method)(*arguments)
    return builder.build()


def imported(*layers, shape=(3, 8, 8)):
    with seeded(4):
        return tl.Network.from_module(nn.Sequential(*layers), [torch.zeros(2, *shape)])


def runs(net, rows=2):
    with torch.no_grad():
        return net(torch.zeros(rows, *next(iter(net.input_shapes.values())))).shape


def branches(updater=None):
    """Two inputs; "left" and "right" are two layers each, joined by a concatenation and by an addition."""
    with seeded(5):
        modules = {
            "left1": (nn.Linear(4, 6), ("a",)),
            "left2": (nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Tanh()), ("left1",)),
            "right1": (nn.Linear(3, 6), ("b",)),
            "right2": (nn.Linear(6, 5), ("right1",)),
            "added": (tl.ElementWise("add").make(), ("left2", "right2")),
            "merged": (tl.Merge().make(), ("left1", "right1", "added")),
        }
        net = tl.Network({n: tl.Vertex(*v) for n, v in modules.items()}, {"a": (4,), "b": (3,)}, ["merged"])
    tuning = tl.FineTuneConfiguration(updater=updater or tl.Sgd(0.1), seed=3)
    return apply(
        net,
        ("fine_tune_configuration", tuning),
        ("add_layer", "hidden", tl.Dense(8, activation="tanh", dropout=0.2), "merged"),
        ("add_layer", "answer", tl.Output(3), "hidden"),
        ("set_outputs", "answer"),
    )


def pairs(rows=10):
    with seeded(6):
        return {"a": torch.randn(rows, 4), "b": torch.randn(rows, 3)}, torch.arange(rows) % 3


# -- several boundaries in one call ---------------------------------------------------------------------------------


def test_boundaries_freeze_the_same_in_any_order_named_twice_or_one_feeding_the_other():
    net = branches()
    expected = net.ancestors("left1", "right2")
    for names in itertools.permutations(["left1", "right1", "right2", "left1"]):
        assert apply(net, ("set_feature_extractor", *names)).frozen == expected


def test_boundaries_of_a_chain_may_be_a_name_and_an_index():
    net = chain(4, 5, 6, 3)
    assert apply(net, ("set_feature_extractor", "0", 1)).frozen == {"0", "1"}


def test_one_unknown_boundary_of_several_is_an_error_that_names_it():
    with pytest.raises(KeyError, match=r"no vertex 'rihgt2'\. Did you mean 'right2'"):
        apply(branches(), ("set_feature_extractor", "left1", "rihgt2"))


@pytest.mark.parametrize(
    ("boundary", "crossing"),
    [
        (["left1", "right1"], ("left1", "right1")),
        (["left2", "right1"], ("left1", "right1", "left2")),  # left1 is read behind the boundary too
        (["left2"], ("b", "left1", "left2")),
        (["added"], ("left1", "right1", "added")),
        (["added", "merged"], ("merged",)),
    ],
)
def test_every_tensor_that_crosses_is_a_boundary_tensor(boundary, crossing):
    net = apply(branches(), ("set_feature_extractor", *boundary))
    assert set(net.boundary()) == set(crossing)
    front, back = net.split()
    assert front.outputs == back.inputs == net.boundary()
    x, _ = pairs()
    assert torch.equal(back(*front(x)) if len(crossing) > 1 else back(front(x)), net(x))


# -- several boundary tensors through the helper --------------------------------------------------------------------


@pytest.mark.parametrize("updater", [tl.Nesterovs(0.05, 0.9), tl.Adam(0.01)], ids=["nesterovs", "adam"])
def test_training_on_several_boundary_tensors_from_memory_a_store_or_a_reopened_one_is_training_the_whole(
    updater, tmp_path
):
    boundary = ("set_feature_extractor", "left2", "right1")
    options = {"epochs": 3, "batch_size": 4, "progress": False}
    whole = apply(branches(updater), boundary)
    before = weights(whole)
    tl.fit(whole, pairs(), **options)
    assert moved(whole, before) == {"right2", "hidden", "answer"}

    sources = {
        "memory": lambda helper: helper.featurize(pairs(), progress=False),
        "store": lambda helper: helper.featurize(pairs(), tmp_path / "features", progress=False),
        "reopened": lambda helper: tl.FeatureStore(tmp_path / "features"),
        "loaded": lambda helper: tl.FeatureStore(tmp_path / "features").load(),
    }
    for source, features in sources.items():
        parts = apply(branches(updater), boundary)
        helper = tl.TransferLearningHelper(parts)
        data = features(helper)
        assert data.names == ("left1", "left2", "right1"), source
        helper.fit_featurized(data, **options)
        assert furthest(weights(parts), weights(whole)) <= 1e-5, source
        x, _ = pairs()
        assert torch.allclose(helper.output_from_featurized(helper.featurize(x)), whole(x), atol=1e-5)


def test_a_network_that_was_saved_reads_the_stored_features_of_several_boundaries(tmp_path):
    net = branches()
    built = apply(net, ("set_feature_extractor", "left2", "right1"))
    store = tl.TransferLearningHelper(built).featurize(pairs(), tmp_path / "features", progress=False)
    tl.save(built, tmp_path / "network.tlk")
    start = tl.Network({n: net.vertices[n] for n in list(net.vertices)[:-2]}, net.input_shapes, ["merged"])
    helper = tl.TransferLearningHelper(tl.load(tmp_path / "network.tlk", source=start))
    assert helper.unfrozen_network.inputs == store.names
    again = helper.featurize(pairs(), tmp_path / "features", progress=False)
    assert again.computed == 0
    assert helper.fit_featurized(again, progress=False).examples == 10


def test_boundaries_given_to_the_helper_are_those_of_the_builder():
    built = apply(branches(), ("set_feature_extractor", "left2", "right1"))
    net = branches()
    helper = tl.TransferLearningHelper(net, "right1", "left2")
    assert net.frozen == built.frozen
    x, _ = pairs()
    features, expected = helper.featurize(x), tl.TransferLearningHelper(built).featurize(x)
    assert list(features) == list(expected)
    assert all(torch.equal(features[name], expected[name]) for name in expected)


def test_a_batch_that_lacks_a_boundary_tensor_is_an_error_that_names_what_is_read():
    helper = tl.TransferLearningHelper(branches(), "left2", "right1")
    features = helper.featurize(pairs()[0])
    del features["left1"]
    message = "takes the inputs 'left1', 'left2' and 'right1', got 'left2' and 'right1'"
    with pytest.raises(ValueError, match=message):
        helper.output_from_featurized(features)
    with pytest.raises(ValueError, match="reads 'left1', 'left2' and 'right1', the data hold 'left2' and 'right1'"):
        helper.fit_featurized((features, pairs()[1]), progress=False)


# -- adding without a configuration ---------------------------------------------------------------------------------


def test_a_layer_added_without_a_configuration_has_the_librarys_defaults():
    net = chain(40, 50, 3)
    net.seed = 2
    built = apply(net, ("add_layer", "new", tl.Dense(60), "0"), ("add_layer", "answer", tl.Output(4), "new", "1"),
                  ("set_outputs", "answer"))  # fmt: skip
    new = built.vertices["new"]
    assert new.settings == Settings()
    assert new.module.weight.std().item() == pytest.approx((2 / (50 + 60)) ** 0.5, rel=0.1)  # xavier
    assert not new.module.bias.any()
    assert new.module.dropout is new.module.activation is new.module.weight_noise is None
    assert isinstance(built.vertices["answer"].module.activation, nn.Softmax)


def test_a_layer_added_without_a_configuration_leaves_the_settings_of_the_others_alone():
    net = classifier(4, 5, 3, updater=tl.Adam(0.02), l2=0.1)
    built = apply(net, ("add_layer", "side", tl.Output(2, updater=tl.Sgd(0.5)), "0"), ("set_outputs", "1", "side"))
    for name, vertex in net.vertices.items():
        assert built.vertices[name].settings == vertex.settings
    assert built.vertices["side"].settings == Settings(updater=tl.Sgd(0.5))


def test_without_a_configuration_the_networks_seed_or_the_callers_random_numbers_draw_new_weights():
    def drawn(net):
        built = apply(net, ("add_layer", "new", tl.Dense(6), "0"), ("set_outputs", "new", "1"))
        return built.vertices["new"].module.weight

    net = chain(4, 5, 3)
    with seeded(1):
        first, second = drawn(net), drawn(net)
    with seeded(1):
        assert torch.equal(drawn(net), first)
    assert not torch.equal(first, second)
    net.seed = 7
    assert torch.equal(drawn(net), drawn(net))


def test_what_was_added_without_a_configuration_trains_with_the_default_updater():
    net = apply(chain(4, 5, 3), ("remove_output_layer",), ("add_layer", "answer", tl.Output(3)))
    net.seed = 1
    before = weights(net)
    history = tl.fit(net, blobs(), epochs=20, progress=False)
    assert moved(net, before) == {"0", "answer"}
    assert history.losses[-1] < history.losses[0]
    assert [*net.optimizers.by_updater] == [tl.Adam(1e-3)]


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_new_layers_have_the_type_and_the_place_of_the_networks_weights(dtype, device):
    layers = nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4, affine=False), nn.Flatten(), nn.Linear(36, 5)
    net = imported(*layers).to(device, dtype)
    *_, last = net.vertices
    built = apply(
        net,
        ("n_out_replace", "0", 6),
        ("add_vertex", "norm", tl.BatchNorm(), "0"),
        ("add_vertex", "pool", tl.GlobalPool(), "norm"),
        ("add_layer", "side", tl.Output(2), "pool"),
        ("add_layer", "given", nn.Linear(6, 2), "pool"),
        ("set_outputs", last, "side", "given"),
    )
    assert {(value.dtype, value.device.type) for value in built.parameters()} == {(dtype, device)}
    assert {(v.dtype, v.device.type) for v in built.buffers() if v.is_floating_point()} == {(dtype, device)}
    assert built.output_shapes()["side"] == (2,)


# -- new widths into vertices that join -----------------------------------------------------------------------------


class Concatenation(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(10, 2)

    def forward(self, x):
        return self.head(torch.cat([self.first(x), self.second(x)], dim=1))


def joining(kind):
    if kind == "torch.cat":
        with seeded(1):
            net = tl.Network.from_module(Concatenation(), [torch.zeros(1, 4)], granularity="layer")
        return net, next(name for name in net.vertices if name not in ("first", "second", "head"))
    vertex = {"merge": tl.Merge(), "addition": tl.ElementWise("add"), "average": tl.ElementWise("average")}[kind]
    with seeded(1):
        modules = {
            "first": (nn.Linear(4, 5), ("x",)),
            "second": (nn.Linear(4, 5), ("x",)),
            "relu": (nn.ReLU(), ("second",)),
            "both": (vertex.make(), ("first", "relu")),
            "head": (nn.Linear(10 if kind == "merge" else 5, 2), ("both",)),
        }
    return tl.Network({name: tl.Vertex(*v) for name, v in modules.items()}, {"x": (4,)}, ["head"]), "both"


JOINS = ["torch.cat", "merge", "addition", "average"]


@pytest.mark.parametrize("layer", ["first", "second"])
@pytest.mark.parametrize("kind", JOINS)
def test_a_new_width_into_a_join_is_an_error_that_says_what_to_do(kind, layer):
    net, join = joining(kind)
    message = (
        rf"reaches '{join}' \(\w+\), which also depends on other widths\. Remove it and what it feeds with "
        "remove_vertex_and_connections, and add new vertices"
    )
    before = weights(net)
    with pytest.raises(ValueError, match=message):
        apply(net, ("n_out_replace", layer, 7))
    assert furthest(weights(net), before) == 0


@pytest.mark.parametrize("kind", JOINS)
def test_what_the_error_says_to_do_works(kind):
    net, join = joining(kind)
    built = apply(
        net,
        ("n_out_replace", "first", 7),
        ("n_out_replace", "second", 7),
        ("remove_vertex_and_connections", join),
        ("remove_vertex_and_connections", "head"),
        ("add_vertex", "joined", tl.Merge() if kind in ("torch.cat", "merge") else tl.ElementWise(), "first", "second"),
        ("add_layer", "answer", tl.Output(3), "joined"),
        *([("remove_vertex_and_connections", "relu")] if "relu" in net.vertices else []),
        ("set_outputs", "answer"),
    )
    assert runs(built) == (2, 3)
    assert built.vertices["answer"].module.in_features == (14 if kind in ("torch.cat", "merge") else 7)


def test_a_new_width_may_go_into_a_join_that_is_made_anew_with_its_reader_told():
    net, _ = joining("merge")
    anew = [("remove_vertex_keep_connections", "both"), ("add_vertex", "both", tl.Merge(), "first", "relu")]
    built = apply(net, ("n_out_replace", "first", 7), *anew, ("n_in_replace", "head", 12))
    assert built.vertices["head"].module.in_features == 12
    assert runs(built) == (2, 2)
    with pytest.raises(ValueError, match=r"Vertex 'head' cannot read 'both' of shape \(12,\)"):
        apply(net, ("n_out_replace", "first", 7), *anew)


def test_a_width_beside_a_join_can_change():
    net, _ = joining("merge")
    built = apply(net, ("add_layer", "side", tl.Output(2), "first"), ("set_outputs", "head", "side"))
    assert apply(built, ("n_out_replace", "side", 4)).output_shapes()["side"] == (4,)
    assert apply(built, ("n_out_replace", "head", 4)).output_shapes()["head"] == (4,)


# -- removing twice -------------------------------------------------------------------------------------------------

REMOVALS = ["remove_vertex_keep_connections", "remove_vertex_and_connections"]


@pytest.mark.parametrize("first", REMOVALS)
@pytest.mark.parametrize("second", REMOVALS)
def test_removing_twice_is_an_error_in_every_spelling(first, second):
    with seeded(1):
        module = nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5)), nn.Linear(5, 3))
    net = tl.Network.from_module(module, [torch.zeros(1, 4)])
    for one, other in itertools.combinations(["0.1", "0_1", 1, -2], 2):
        with pytest.raises(ValueError, match=r"Vertex '0_1' is removed twice\. Remove it once, with or without"):
            apply(net, (first, one), (second, other))


def test_layers_are_removed_from_the_output_once():
    for calls in itertools.product([("remove_output_layer",), ("remove_layers_from_output", 2)], repeat=2):
        with pytest.raises(ValueError, match=r"already removed from the output\. Say the whole number in one"):
            apply(chain(4, 5, 5, 3), *calls)
    with pytest.raises(ValueError, match="Vertex '1' is removed twice"):
        apply(chain(4, 5, 5, 3), ("remove_vertex_keep_connections", 1), ("remove_layers_from_output", 2))


def test_adding_twice_is_an_error_too():
    net = chain(4, 5, 3)
    twice = [("add_layer", "new", tl.Dense(2), "0"), ("add_layer", "new", tl.Dense(3), "1")]
    with pytest.raises(ValueError, match="There is already a vertex 'new'"):
        apply(net, *twice)
    with pytest.raises(ValueError, match="There is already a vertex '1'"):
        apply(net, ("remove_output_layer",), ("add_layer", "1", tl.Dense(2)), ("add_layer", "1", tl.Dense(2), "0"))


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


# -- batch normalization under freezing -----------------------------------------------------------------------------

NORMALIZED = {
    "joined to its layer": [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3)],
    "a vertex of its own": [nn.MaxPool2d(2), nn.BatchNorm2d(3), nn.Dropout2d(0.3)],
    "cumulative": [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=None), nn.Tanh()],
    "without scale and shift": [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False)],
    "behind flattening": [nn.Flatten(), nn.Linear(192, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)],
}


def normalized(kind):
    with seeded(2):
        front = nn.Sequential(*copy.deepcopy(NORMALIZED[kind]))
        front.train()(torch.randn(8, 3, 8, 8))  # statistics of its own
        width = front.eval()(torch.zeros(1, 3, 8, 8)).numel()
        net = tl.Network.from_module(
            nn.Sequential(*front, nn.Flatten(), nn.Linear(width, 5)), [torch.zeros(2, 3, 8, 8)]
        )
    *_, flatten, last = net.vertices
    return apply(
        net,
        ("fine_tune_configuration", tl.FineTuneConfiguration(updater=tl.Sgd(0.1), l2=0.1, seed=1)),
        ("set_feature_extractor", flatten),
        ("remove_vertex_keep_connections", last),
        ("add_layer", last, tl.Output(3), flatten),
    )


def images(rows=8):
    with seeded(3):
        return 2 + 3 * torch.randn(rows, 3, 8, 8), torch.arange(rows) % 3


@pytest.mark.parametrize("kind", NORMALIZED)
def test_frozen_batch_norm_keeps_its_statistics_and_answers_whatever_trains_behind_it(kind):
    net = normalized(kind)
    front, _ = net.split()
    x, y = images()
    before, answers = weights(net), front(x)
    tl.fit(net, (x, y), epochs=2, progress=False)
    net.train()
    net(x)
    tl.TransferLearningHelper(net).fit_featurized((front(x), y), progress=False)
    assert moved(net, before) == {list(net.vertices)[-1]}
    for mode in (True, False):
        net.train(mode)
        front.train(mode)
        assert torch.equal(front(x), answers)
        assert torch.allclose(torch.cat([front(row[None]) for row in x]), answers, atol=1e-5), (
            "no row depends on others"
        )


@pytest.mark.parametrize("kind", NORMALIZED)
def test_batch_norm_that_is_unfrozen_follows_the_data_again(kind):
    net = normalized(kind)
    built = apply(net, ("set_feature_extractor",))
    before, original = weights(built), weights(net)
    tl.fit(built, images(), epochs=2, progress=False)
    changed = {name for name, value in built.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} >= {"running_mean", "running_var", "num_batches_tracked"}
    assert furthest(weights(net), original) == 0


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


def test_the_first_step_behind_a_build_has_no_momentum():
    net = classifier(4, 6, 3, updater=tl.Nesterovs(0.1, 0.9))
    tl.fit(net, blobs(), epochs=5, progress=False)
    x, y = blobs()
    built = tl.TransferLearning(net).build()
    plain = apply(net, ("fine_tune_configuration", tl.FineTuneConfiguration(updater=tl.Sgd(0.19))))
    for each in (built, plain):  # Nesterov's first step is (1 + momentum) x rate x gradient
        tl.fit(each, (x, y), batch_size=len(x), max_iterations=1, shuffle=False, progress=False)
    assert furthest(weights(built), weights(plain)) < 1e-6


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


# -- new widths through vertices that pass them on ------------------------------------------------------------------

POOLS = {
    "max": (nn.MaxPool2d(2), 16),
    "average": (nn.AvgPool2d(4), 4),
    "adaptive": (nn.AdaptiveAvgPool2d((2, 3)), 6),
    "padded": (nn.MaxPool2d(3, stride=2, padding=1), 16),
    "none": (nn.Identity(), 64),
}


@pytest.mark.parametrize("pool", POOLS)
def test_behind_pooling_and_flattening_a_layer_reads_channels_times_area(pool):
    module, area = POOLS[pool]
    net = imported(nn.Conv2d(3, 4, 1), module, nn.Flatten(), nn.Linear(4 * area, 5))
    *_, last = net.vertices
    wide = apply(net, ("n_out_replace", "0", 7, "relu", "ones"))
    assert wide.vertices[last].module.in_features == 7 * area
    assert (wide.vertices[last].module.weight == 1).all()
    assert runs(wide) == (2, 5)


NORM_BEHIND = {  # layers, shape of the input, channels of the norm for a width of 6
    "pooling": ([nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(36, 5)], (3, 8, 8), 6),
    "flattening": ([nn.Conv2d(3, 4, 3), nn.Flatten(), nn.BatchNorm1d(144), nn.Linear(144, 5)], (3, 8, 8), 6 * 36),
    "an activation": ([nn.Linear(3, 4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 5)], (3,), 6),
    "one dimension": ([nn.Conv1d(3, 4, 3), nn.ReLU(), nn.BatchNorm1d(4), nn.Flatten(), nn.Linear(24, 5)], (3, 8), 6),
}


@pytest.mark.parametrize("where", NORM_BEHIND)
def test_batch_norm_gets_the_new_width_and_fresh_statistics_wherever_it_stands(where):
    layers, shape, expected = NORM_BEHIND[where]
    net = imported(*layers, shape=shape)
    norms = [part for part in net.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
    norms[0].running_mean.fill_(3)
    wide = apply(net, ("n_out_replace", "0", 6))
    (norm,) = [part for part in wide.modules() if isinstance(part, (nn.BatchNorm1d, nn.BatchNorm2d))]
    assert norm.num_features == len(norm.weight) == expected
    assert not norm.running_mean.any()
    assert (norm.weight == 1).all()
    assert runs(wide) == (2, 5)
    assert (norms[0].running_mean == 3).all()


def test_both_readers_of_a_layer_get_its_new_width():
    net = apply(chain(4, 5, 3), ("add_layer", "side", tl.Dense(2), "0"), ("set_outputs", "1", "side"))
    wide = apply(net, ("n_out_replace", "0", 9))
    assert wide.vertices["1"].module.in_features == wide.vertices["side"].module.in_features == 9
    assert [answer.shape for answer in wide(torch.zeros(2, 4))] == [(2, 3), (2, 2)]


def depthwise(multiplier=1):
    return imported(
        nn.Conv2d(3, 4, 1),
        nn.ReLU(),
        nn.Conv2d(4, 4 * multiplier, 3, groups=4, bias=False),
        nn.BatchNorm2d(4 * multiplier),
        nn.ReLU(),
        nn.Conv2d(4 * multiplier, 6, 1),
    )


def test_a_new_width_passes_through_a_depthwise_convolution_with_batch_norm_to_the_next_layer():
    net = depthwise()
    first, middle, last = net.vertices
    wide = apply(net, ("n_out_replace", first, 10))
    assert (wide.vertices[middle].module.groups, wide.vertices[middle].module.weight.shape) == (10, (10, 1, 3, 3))
    assert wide.vertices[middle].module.norm.num_features == 10
    assert wide.vertices[last].module.weight.shape == (6, 10, 1, 1)
    assert runs(wide) == (2, 6, 6, 6)


def test_a_convolution_with_several_filters_a_channel_is_a_grouped_one():
    net = depthwise(multiplier=2)
    first, middle, last = net.vertices
    wide = apply(net, ("n_out_replace", first, 8))
    assert wide.vertices[middle].module.weight.shape == (8, 2, 3, 3)
    assert torch.equal(wide.vertices[last].module.weight, net.vertices[last].module.weight)
    message = (
        f"Vertex '{middle}' cannot read '{first}' of shape .*4 groups needs inputs and outputs divisible by it, got"
    )
    with pytest.raises(ValueError, match=f"{message} 6 and 8"):
        apply(net, ("n_out_replace", first, 6))
    with pytest.raises(ValueError, match=f"{message} 4 and 10"):
        apply(net, ("n_out_replace", middle, 10))


@pytest.mark.parametrize("through", [[], [nn.MaxPool2d(2)], [nn.BatchNorm2d(4), nn.Dropout(0.1)]])
def test_groups_must_divide_a_new_width_also_from_afar(through):
    net = imported(nn.Conv2d(3, 4, 1), *through, nn.Conv2d(4, 6, 1, groups=2), nn.Conv2d(6, 2, 1))
    *_, grouped, last = net.vertices
    wide = apply(net, ("n_out_replace", "0", 8), ("n_out_replace", grouped, 10))
    assert wide.vertices[grouped].module.weight.shape == (10, 4, 1, 1)
    assert wide.vertices[last].module.in_channels == 10
    for edit, sizes in ((("n_out_replace", "0", 7), "7 and 6"), (("n_out_replace", grouped, 7), "4 and 7")):
        with pytest.raises(
            ValueError, match=rf"Vertex '{grouped}' cannot read .*2 groups .* divisible by it, got {sizes}"
        ):
            apply(net, edit)


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 8]), nn.PReLU(4)])
def test_what_has_weights_for_each_channel_and_is_no_batch_norm_stops_a_new_width(norm):
    net = imported(nn.Conv2d(3, 4, 1), nn.MaxPool2d(1), norm, nn.Conv2d(4, 2, 1))
    with pytest.raises(
        ValueError, match=rf"reaches '\w+' \({type(norm).__name__}\), which also depends on other widths"
    ):
        apply(net, ("n_out_replace", "0", 6))
