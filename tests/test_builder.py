import copy
import gc
import io
import json
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import blobs, chain, classifier, furthest, moved, narrow_vgg16, pictures, seeded, weights
from safetensors.torch import load, save
from torch import nn

import tlkit as tl

TUNING = tl.FineTuneConfiguration(updater=tl.Nesterovs(5e-5, 0.9), seed=12345)


@pytest.fixture(scope="module")
def vgg():
    """A narrow VGG16; tests must not change it."""
    net = narrow_vgg16()
    before = everything(net)
    yield net
    assert_same(before, everything(net))


def everything(net):
    """All that a build could change in the network it starts from."""
    return {
        "tensors": weights(net),
        "gradients": {name: value.requires_grad for name, value in net.named_parameters()},
        "modes": {name: module.training for name, module in net.named_modules()},
        "modules": {name: str(module) for name, module in net.named_modules()},
        "frozen": dict(net._frozen),
        "settings": {name: vertex.settings for name, vertex in net.vertices.items()},
        "reads": {name: vertex.inputs for name, vertex in net.vertices.items()},
        "rest": copy.deepcopy(
            (net.inputs, net.outputs, net.classes, net.recipe, net.seed, net.epochs_seen, net.preprocessing)
        ),
    }


def assert_same(before, after):
    assert furthest(before.pop("tensors"), after.pop("tensors")) == 0
    assert before == after


def apply(net, edits):
    builder = tl.TransferLearning(net)
    for method, *arguments in edits:
        assert getattr(builder, method)(*arguments) is builder
    return builder.build()


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
    return apply(vgg, EDITS)


@pytest.mark.slow
@settings(max_examples=10)
@given(st.permutations(EDITS))
def test_any_order_of_calls_builds_the_same_network(vgg, edited, edits):
    one, other = edited, apply(vgg, edits)
    assert list(one.vertices) == list(other.vertices)
    assert furthest(weights(one), weights(other)) == 0
    assert one.frozen == other.frozen
    assert one.outputs == other.outputs
    for name, vertex in one.vertices.items():
        assert vertex.settings == other.vertices[name].settings
        assert vertex.inputs == other.vertices[name].inputs
        assert str(vertex.module) == str(other.vertices[name].module)
    x, _ = pictures(2)
    assert torch.equal(one(x), other(x))


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
        apply(vgg, EDITS)
        after = torch.rand(3)
    with seeded(5):
        assert torch.equal(after, torch.rand(3))


# -- the original ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [False, True])
def test_a_build_leaves_the_original_as_it_was(training):
    net = narrow_vgg16(batch_norm=True).freeze("block2_pool").train(training)
    net.seed, net.classes = 3, tuple("abcdefghij")
    net.vertices["fc1"].module.bias.requires_grad_(False)
    before = everything(net)
    apply(net, EDITS)
    assert_same(before, everything(net))


def test_a_build_without_edits_is_an_equal_copy():
    net = narrow_vgg16(batch_norm=True).freeze("block2_pool").train()
    net.seed = 3
    before, after = everything(net), everything(tl.TransferLearning(net).build())
    before["rest"], after["rest"] = before["rest"][:3], after["rest"][:3]  # the recipe tells of the build
    assert_same(before, after)


def test_kept_vertices_keep_their_weights_by_name(vgg):
    net = (
        tl.TransferLearning(vgg)
        .remove_vertex_and_connections("predictions")
        .add_layer("aaa_first_by_name", tl.Output(5), "fc2")
        .set_outputs("aaa_first_by_name")
        .build()
    )
    old, new = weights(vgg), weights(net)
    kept = {name for name in old if not name.startswith("predictions")}
    assert new.keys() - {"aaa_first_by_name.weight", "aaa_first_by_name.bias"} == kept
    assert all(torch.equal(old[name], new[name]) for name in kept)


def test_a_vertex_of_the_same_name_is_drawn_anew(vgg):
    net = apply(vgg, [("remove_vertex_keep_connections", "fc2"), ("add_layer", "fc2", tl.Dense(12), "fc1")])
    assert moved(net, weights(vgg)) == {"fc2"}


# -- memory ---------------------------------------------------------------------------------------------------------


def test_memory_is_shared_until_one_of_the_two_is_changed():
    net = chain(4, 5, 3)
    copied = tl.TransferLearning(net).build()
    old, new = (n.vertices["0"].module.weight for n in (net, copied))
    assert torch._C._data_address(old) == torch._C._data_address(new)
    with torch.no_grad():
        new.add_(1)
    assert torch._C._data_address(old) != torch._C._data_address(new)


def test_what_numpy_can_write_to_is_copied_at_once():
    net = chain(4, 5, 3)
    before = weights(net)
    alias = net.vertices["0"].module.weight.detach().numpy()
    copied = tl.TransferLearning(net).build()
    alias[:] = 7
    assert furthest(weights(copied), before) == 0
    assert (net.vertices["0"].module.weight == 7).all()


def from_torch_file(tensors, *, mmap, tmp_path):
    torch.save(tensors, tmp_path / "weights.pth")
    return torch.load(tmp_path / "weights.pth", weights_only=True, mmap=mmap)


MEMORIES = {
    "own": lambda tensors, _: tensors,
    "torch.load": lambda tensors, folder: from_torch_file(tensors, mmap=False, tmp_path=folder),
    "torch.load mmap": lambda tensors, folder: from_torch_file(tensors, mmap=True, tmp_path=folder),
    "safetensors": lambda tensors, _: load(save(tensors)),
    "numpy": lambda tensors, _: {n: torch.from_numpy(value.numpy().copy()) for n, value in tensors.items()},
    "shared": lambda tensors, _: {n: value.share_memory_() for n, value in tensors.items()},
    "views of one": lambda tensors, _: views_of_one(tensors),
}


def views_of_one(tensors):
    joined = torch.cat([value.flatten() for value in tensors.values()])
    parts = joined.split([value.numel() for value in tensors.values()])
    return {name: part.view(value.shape) for (name, value), part in zip(tensors.items(), parts, strict=True)}


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("updater", [tl.Sgd(0.5), tl.Adam(0.5)], ids=["sgd", "adam"])
def test_training_either_network_never_changes_the_other(memory, updater, tmp_path):
    net = classifier(4, 5, 3, updater=updater)
    state = {name: value.clone() for name, value in net.state_dict().items()}
    net.load_state_dict(MEMORIES[memory](state, tmp_path), assign=True)
    net._set_frozen({})
    copied = tl.TransferLearning(net).build()
    for trained, other in ((copied, net), (net, copied)):
        before, own = weights(other), weights(trained)
        tl.fit(trained, blobs(), progress=False)
        assert moved(trained, own) == {"0", "1"}
        assert furthest(before, weights(other)) == 0


def test_batch_norm_statistics_are_not_shared_either():
    net = narrow_vgg16(batch_norm=True, classes=5)
    copied = tl.TransferLearning(net).build()
    before = weights(net)
    copied.train()(pictures(4)[0])
    assert moved(copied, before)
    assert furthest(before, weights(net)) == 0


def test_a_built_network_outlives_its_original():
    net = chain(4, 5, 3)
    x, _ = blobs()
    expected = net(x)
    copied = tl.TransferLearning(net).build()
    del net
    gc.collect()
    assert torch.equal(copied(x), expected)


def test_weights_that_vertices_share_stay_shared_in_the_copy():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 4)
            self.head = nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.layer(torch.relu(self.layer(x))))

    net = tl.Network.from_module(Twice(), [torch.zeros(1, 4)])
    copied = tl.TransferLearning(net).build()
    assert len(list(copied.parameters())) == len(list(net.parameters())) == 4
    with pytest.raises(ValueError, match="'layer' is a Linear, not a single layer with a width of its own"):
        tl.TransferLearning(net).n_out_replace("layer", 6).build()
    x, _ = blobs()
    assert torch.equal(copied(x), net(x))


# -- removing and adding --------------------------------------------------------------------------------------------


def test_removing_a_vertex_keeps_or_cuts_its_connections(vgg):
    kept = apply(vgg, [("remove_vertex_keep_connections", "fc2"), ("add_layer", "fc2", tl.Dense(12), "fc1")])
    assert kept.vertices["predictions"].inputs == ("fc2",)
    assert kept.outputs == ("predictions",)

    two = apply(vgg, [("add_layer", "side", tl.Dense(3), "fc1"), ("set_outputs", "predictions", "side")])
    cut = tl.TransferLearning(two).remove_vertex_and_connections("side").build()
    assert cut.outputs == ("predictions",)

    merged = apply(two, [("add_vertex", "both", tl.Merge(), "predictions", "side"), ("set_outputs", "both")])
    cut = tl.TransferLearning(merged).remove_vertex_and_connections("side").build()
    assert cut.vertices["both"].inputs == ("predictions",)
    assert cut.output_shapes()["both"] == (10,)


def test_removing_twice_is_an_error(vgg):
    for second in ("remove_vertex_keep_connections", "remove_vertex_and_connections"):
        with pytest.raises(ValueError, match="Vertex 'predictions' is removed twice"):
            apply(vgg, [("remove_vertex_keep_connections", "predictions"), (second, "predictions")])
    with pytest.raises(ValueError, match="Vertex 'predictions' is removed twice"):
        apply(vgg, [("remove_output_layer",), ("remove_vertex_and_connections", "predictions")])


def test_kept_connections_that_lead_nowhere_are_an_error_that_says_what_to_add(vgg):
    with pytest.raises(ValueError, match=r"'predictions' .* still an output. Add .* add_layer\('predictions', ...\)"):
        apply(vgg, [("remove_vertex_keep_connections", "predictions")])
    with pytest.raises(ValueError, match="'fc1' was removed with its connections kept, and 'fc2' still read it"):
        apply(vgg, [("remove_vertex_keep_connections", "fc1")])


def test_cut_connections_that_leave_a_gap_are_an_error_that_names_it(vgg):
    with pytest.raises(ValueError, match="Vertex 'predictions' has no inputs"):
        apply(vgg, [("remove_vertex_and_connections", "fc2")])
    with pytest.raises(ValueError, match=r"no output. Name what it answers with: set_outputs\(...\). It ends in 'fc2'"):
        apply(vgg, [("remove_vertex_and_connections", "predictions")])
    with pytest.raises(ValueError, match="Nothing reads 'fc2', and it is no output"):
        apply(vgg, [("remove_vertex_and_connections", "predictions"), ("set_outputs", "fc1")])


def test_adding_a_name_that_exists_is_an_error(vgg):
    with pytest.raises(ValueError, match=r"There is already a vertex 'fc2'. Remove it first"):
        apply(vgg, [("add_layer", "fc2", tl.Dense(3), "fc1")])
    with pytest.raises(ValueError, match="There is already a vertex 'new'"):
        apply(vgg, [("add_layer", "new", tl.Dense(3), "fc1"), ("add_vertex", "new", tl.Flatten(), "fc2")])
    with pytest.raises(ValueError, match="There is already a vertex 'new_merge'"):
        apply(vgg, [("add_vertex", "new_merge", tl.Flatten(), "fc1"), ("add_layer", "new", tl.Dense(3), "fc1", "fc2")])


def test_a_name_with_a_dot_is_answered_with_one_that_works(vgg):
    with pytest.raises(ValueError, match=r"write 'my_head' for 'my.head'"):
        apply(vgg, [("add_layer", "my.head", tl.Dense(3), "fc1"), ("set_outputs", "my.head", "predictions")])


UNKNOWN = {
    "set_feature_extractor": ("fc_2",),
    "n_out_replace": ("fc_2", 5),
    "n_in_replace": ("fc_2", 5),
    "remove_vertex_keep_connections": ("fc_2",),
    "remove_vertex_and_connections": ("fc_2",),
    "add_layer": ("new", tl.Dense(3), "fc_2"),
    "add_vertex": ("new", tl.Flatten(), "fc_2"),
    "set_outputs": ("fc_2",),
}


@pytest.mark.parametrize("method", UNKNOWN)
def test_an_unknown_name_is_answered_with_near_misses(vgg, method):
    with pytest.raises(KeyError, match=r"no vertex 'fc_2'. Did you mean .*'fc2'.*list\(net.vertices\)"):
        apply(vgg, [(method, *UNKNOWN[method])])


@pytest.mark.parametrize("method", ["set_outputs", "add_layer", "add_vertex"])
def test_a_removed_name_is_said_to_be_removed(vgg, method):
    rest = {"set_outputs": (), "add_layer": (tl.Dense(2),), "add_vertex": (tl.Flatten(),)}[method]
    arguments = ("new", *rest, "predictions") if rest else ("predictions",)
    with pytest.raises(KeyError, match=r"no vertex 'predictions'. It was removed."):
        apply(vgg, [("remove_vertex_and_connections", "predictions"), (method, *arguments)])


def test_dotted_module_paths_are_names_too():
    net = tl.Network.from_module(nn.Sequential(nn.Sequential(nn.Linear(4, 5)), nn.Linear(5, 3)), [torch.zeros(1, 4)])
    built = apply(net, [("set_feature_extractor", "0.0"), ("add_layer", "new", tl.Dense(2), "0.0"), *END])
    assert built.frozen == {"0_0"}
    assert built.vertices["new"].inputs == ("0_0",)


END = [("set_outputs", "1", "new")]


def test_a_layer_with_several_inputs_reads_a_merge_of_them(vgg):
    net = apply(vgg, [("add_layer", "new", tl.Output(3), "fc1", "fc2"), ("set_outputs", "predictions", "new")])
    assert net.vertices["new_merge"].inputs == ("fc1", "fc2")
    assert net.vertices["new"].inputs == ("new_merge",)
    assert net.vertices["new"].module.in_features == 16 + 12


def test_merge_element_wise_and_subset_compute_what_they_say():
    net = chain(4, 5, 3)
    edits = [
        ("add_layer", "left", tl.Dense(6), "0"),
        ("add_layer", "right", tl.Dense(6), "0"),
        ("add_vertex", "sum", tl.ElementWise("add"), "left", "right"),
        ("add_vertex", "largest", tl.ElementWise("max"), "left", "right"),
        ("add_vertex", "mean", tl.ElementWise("average"), "left", "right"),
        ("add_vertex", "both", tl.Merge(), "left", "right"),
        ("add_vertex", "part", tl.Subset(1, 4), "left"),
        ("set_outputs", "left", "right", "sum", "largest", "mean", "both", "part", "1"),
    ]
    x, _ = blobs()
    left, right, total, largest, mean, both, part, _ = apply(net, edits)(x)
    assert torch.equal(total, left + right)
    assert torch.equal(largest, torch.maximum(left, right))
    assert torch.allclose(mean, (left + right) / 2)
    assert torch.equal(both, torch.cat([left, right], 1))
    assert torch.equal(part, left[:, 1:4])


def test_set_outputs_replaces_the_outputs_and_their_order(vgg):
    net = apply(vgg, [("add_layer", "side", tl.Output(3), "fc1"), ("set_outputs", "side", "predictions")])
    assert net.outputs == ("side", "predictions")
    assert [tuple(answer.shape) for answer in net(pictures(2)[0])] == [(2, 3), (2, 10)]
    inner = apply(vgg, [("remove_vertex_and_connections", "predictions"), ("set_outputs", "fc2")])
    assert inner.outputs == ("fc2",)


def test_a_later_call_that_sets_something_replaces_the_earlier_one(vgg):
    builder = tl.TransferLearning(vgg).set_feature_extractor("fc2").set_feature_extractor("block1_pool")
    builder.fine_tune_configuration(tl.FineTuneConfiguration(l2=1.0)).fine_tune_configuration(TUNING)
    net = builder.build()
    assert net.frozen == net.ancestors("block1_pool")
    assert net.vertices["fc2"].settings.l2 == 0
    assert net.vertices["fc2"].settings.updater == tl.Nesterovs(5e-5, 0.9)


def test_set_inputs_gives_the_network_other_inputs():
    net = chain(4, 5, 3)
    edits = [
        ("remove_vertex_and_connections", "0"),
        ("remove_vertex_and_connections", "1"),
        ("add_layer", "answer", tl.Output(3), "left", "right"),
        ("set_inputs", {"left": (4,), "right": (2,)}),
        ("set_outputs", "answer"),
    ]
    built = apply(net, edits)
    assert built.inputs == ("left", "right")
    assert built.input_shapes == {"left": (4,), "right": (2,)}
    assert built(torch.zeros(2, 4), torch.zeros(2, 2)).shape == (2, 3)


def test_set_inputs_may_change_the_size_of_the_images(vgg):
    net = apply(vgg, [("set_inputs", {vgg.inputs[0]: (3, 64, 64)})])
    assert net.output_shapes()["block5_pool"] == (8, 2, 2)
    assert torch.equal(net(pictures(2)[0]), vgg(pictures(2)[0]))


def test_a_module_object_is_a_layer(vgg):
    class Scale(nn.Module):
        def __init__(self):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor(2.0))

        def forward(self, x):
            return x * self.factor

    scale, head = Scale(), nn.Linear(12, 5)
    edits = [
        ("remove_vertex_keep_connections", "predictions"),
        ("add_vertex", "scale", scale, "fc2"),
        ("add_layer", "predictions", head, "scale"),
        ("set_feature_extractor", "fc2"),
    ]
    net = apply(vgg, edits)
    x, _ = pictures(2)
    inner = tl.TransferLearning(vgg).remove_vertex_and_connections("predictions").set_outputs("fc2").build()
    assert torch.allclose(net(x), head(2 * inner(x)))
    assert net.frozen == net.ancestors("fc2")
    with torch.no_grad():
        net.vertices["scale"].module.factor.zero_()
    assert scale.factor == 2, "the object itself is left alone"
    wider = tl.TransferLearning(net).n_out_replace("predictions", 7).build()
    assert wider(x).shape == (2, 7), "a torch layer can be changed like any other"


def test_layers_of_a_network_built_by_hand_can_be_changed():
    vertices = {"hidden": tl.Vertex(nn.Linear(4, 8), ("x",)), "out": tl.Vertex(nn.Linear(8, 2), ("hidden",))}
    net = tl.Network(vertices, {"x": (4,)}, ["out"])
    wider = tl.TransferLearning(net).n_out_replace("hidden", 5).build()
    assert wider.vertices["out"].module.in_features == 5
    tuned = tl.TransferLearning(net).fine_tune_configuration(tl.FineTuneConfiguration(dropout=0.5)).build()
    assert tuned.vertices["hidden"].module.dropout.p == 0.5
    assert type(net.vertices["hidden"].module) is nn.Linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_new_and_redrawn_layers_have_the_networks_number_type(dtype):
    net = tl.Network.from_module(
        nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), torch.zeros(1, 4)
    ).to(dtype)
    built = tl.TransferLearning(net).n_out_replace("0", 8).add_layer("new", tl.Dense(5)).add_layer("out", tl.Output(2))
    built = built.build()
    assert {value.dtype for value in built.state_dict().values() if value.is_floating_point()} == {dtype}
    assert built(torch.zeros(3, 4, dtype=dtype)).dtype == dtype


def test_a_width_that_does_not_fit_is_an_error_that_names_the_vertices(vgg):
    with pytest.raises(ValueError, match=r"Vertex 'fc2' cannot read 'fc1' of shape \(99,\)"):
        apply(vgg, [("remove_vertex_keep_connections", "fc1"), ("add_layer", "fc1", tl.Dense(99), "flatten")])
    with pytest.raises(ValueError, match=r"Vertex 'sum' cannot read 'fc1' and 'fc2' of shape \(16,\) and \(12,\)"):
        apply(vgg, [("add_vertex", "sum", tl.ElementWise(), "fc1", "fc2"), ("set_outputs", "sum", "predictions")])
    with pytest.raises(ValueError, match=r"'new' cannot read 'block5_pool' .*Dense takes a flat input.*tl.Flatten"):
        apply(vgg, [("add_layer", "new", tl.Dense(3), "block5_pool"), ("set_outputs", "new", "predictions")])
    with pytest.raises(ValueError, match=r"Dense\(n_in=99\) reads an input of size 16. Leave n_in out"):
        apply(vgg, [("add_layer", "new", tl.Dense(3, n_in=99), "fc1"), ("set_outputs", "new", "predictions")])


def test_a_cycle_is_an_error_that_names_it(vgg):
    edits = [("add_layer", "a", tl.Dense(3), "b"), ("add_layer", "b", tl.Dense(3), "a")]
    with pytest.raises(ValueError, match="'a' and 'b' feed each other in a cycle"):
        apply(vgg, [*edits, ("set_outputs", "a", "predictions")])


# -- chains ---------------------------------------------------------------------------------------------------------


def test_an_index_stands_for_a_name_in_a_chain():
    net = chain(4, 5, 6, 3)
    edits = [
        ("set_feature_extractor", 0),
        ("n_out_replace", 1, 9),
        ("remove_vertex_keep_connections", -1),
        ("add_layer", "2", tl.Output(3), 1),
        ("add_layer", "side", tl.Output(2), -2),
        ("set_outputs", "2", "side"),
    ]
    built = apply(net, edits)
    assert built.frozen == {"0"}
    assert built.vertices["1"].module.out_features == 9
    assert built.vertices["2"].inputs == built.vertices["side"].inputs == ("1",)


def test_an_index_needs_a_chain():
    net = apply(chain(4, 5, 3), [("add_layer", "side", tl.Dense(2), "0"), ("set_outputs", "1", "side")])
    with pytest.raises(TypeError, match="Index 0 needs a chain of layers, and this network branches"):
        tl.TransferLearning(net).set_feature_extractor(0).build()
    with pytest.raises(KeyError, match="Index 5 is outside this network of 2 layers"):
        tl.TransferLearning(chain(4, 5, 3)).set_feature_extractor(5).build()


def test_remove_output_layer_takes_the_last_layer_off():
    net = chain(4, 5, 6, 3)
    built = tl.TransferLearning(net).remove_output_layer().build()
    assert list(built.vertices) == ["0", "1"]
    assert built.outputs == ("1",)


def test_layers_are_added_to_the_end_of_a_chain():
    net = chain(4, 5, 6, 3)
    built = (
        tl.TransferLearning(net)
        .remove_layers_from_output(2)
        .add_layer("z", tl.Dense(7, activation="relu"))
        .add_layer("a", tl.Dense(8))
        .add_layer("m", tl.Output(2))
        .build()
    )
    assert [(name, vertex.inputs) for name, vertex in built.vertices.items()] == [
        ("0", net.inputs),
        ("z", ("0",)),
        ("a", ("z",)),
        ("m", ("a",)),
    ]
    assert built.outputs == ("m",)
    assert tl.TransferLearning(net).add_layer("more", tl.Output(2)).build().outputs == ("more",)


def test_removing_from_the_end_with_outputs_of_ones_own():
    net = chain(4, 5, 6, 3)
    edits = [
        ("remove_output_layer",),
        ("add_layer", "a", tl.Output(2), "1"),
        ("add_layer", "b", tl.Output(3), "1"),
    ]
    assert apply(net, [*edits, ("set_outputs", "b", "a")]).outputs == ("b", "a")
    with pytest.raises(ValueError, match=r"several ends, 'a' and 'b'. Name its outputs: set_outputs"):
        apply(net, edits)


@pytest.mark.parametrize("n", [0, -1, 3, 4])
def test_a_chain_keeps_one_layer_at_least(n):
    with pytest.raises(ValueError, match=f"A chain of 3 layers cannot lose {n}. Give 1 to 2."):
        tl.TransferLearning(chain(4, 5, 6, 3)).remove_layers_from_output(n).build()


def test_layers_are_removed_from_the_output_in_one_call():
    builder = tl.TransferLearning(chain(4, 5, 6, 3)).remove_output_layer()
    with pytest.raises(ValueError, match=r"Say the whole number in one remove_layers_from_output\(n\)"):
        builder.remove_layers_from_output(1)


def test_a_layer_without_inputs_needs_one_end():
    net = apply(chain(4, 5, 3), [("add_layer", "side", tl.Dense(2), "0"), ("set_outputs", "1", "side")])
    with pytest.raises(ValueError, match="'new' has no inputs, which needs a chain with one end; found '1' and 'side'"):
        tl.TransferLearning(net).add_layer("new", tl.Dense(2)).build()


# -- widths ---------------------------------------------------------------------------------------------------------


def imported(*layers, shape=(3, 8, 8)):
    with seeded(4):
        return tl.Network.from_module(nn.Sequential(*layers), [torch.zeros(1, *shape)])


def runs(net):
    with torch.no_grad():
        return net(torch.zeros(2, *next(iter(net.input_shapes.values())))).shape


def test_a_new_width_reaches_the_next_layer_through_pooling_flatten_batch_norm_and_dropout():
    net = imported(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(4),
        nn.Dropout2d(0.1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(4 * 16, 6),
        nn.ReLU(),
        nn.Linear(6, 2),
    )
    wide = tl.TransferLearning(net).n_out_replace("0", 7).build()
    assert wide.vertices["0"].module.out_channels == 7
    assert wide.vertices["7"].module.in_features == 7 * 16
    assert runs(wide) == (2, 2)
    assert torch.equal(wide.vertices["9"].module.weight, net.vertices["9"].module.weight)
    kinds = {type(part).__name__: part for part in wide.modules()}
    assert kinds["BatchNorm2d"].num_features == 7


@pytest.mark.parametrize("norm", [True, False])
def test_a_new_width_passes_through_depthwise_convolutions(norm):
    norms = [nn.BatchNorm2d(4), nn.BatchNorm2d(4)] if norm else [nn.Identity(), nn.Identity()]
    net = imported(
        nn.Conv2d(3, 4, 1),
        norms[0],
        nn.Conv2d(4, 4, 3, groups=4),
        norms[1],
        nn.ReLU(),
        nn.Conv2d(4, 5, 1),
        nn.Flatten(),
    )
    first, depthwise, last, *_ = net.vertices
    wide = tl.TransferLearning(net).n_out_replace(first, 6, "xavier", "ones").build()
    modules = {name: wide.vertices[name].module for name in (first, depthwise, last)}
    assert modules[depthwise].groups == modules[depthwise].in_channels == modules[depthwise].out_channels == 6
    assert modules[last].in_channels == 6
    assert modules[last].out_channels == 5
    assert (modules[depthwise].weight == 1).all()
    assert (modules[last].weight == 1).all()
    assert runs(wide)[0] == 2
    with pytest.raises(ValueError, match=f"'{depthwise}' is a depthwise convolution.*Change what it reads, '{first}'"):
        tl.TransferLearning(net).n_out_replace(depthwise, 8).build()


def test_both_schemes_are_used_where_they_belong(vgg):
    net = apply(vgg, [("n_out_replace", "fc1", 50, tl.Constant(3), tl.Constant(5))])
    assert (net.vertices["fc1"].module.weight == 3).all()
    assert (net.vertices["fc2"].module.weight == 5).all()
    assert torch.equal(net.vertices["predictions"].module.weight, vgg.vertices["predictions"].module.weight)


def test_without_schemes_the_configuration_says_how_to_draw(vgg):
    tuning = tl.FineTuneConfiguration(weight_init=tl.Constant(2), bias_init=0.5)
    net = apply(vgg, [("fine_tune_configuration", tuning), ("n_out_replace", "fc1", 50)])
    for name in ("fc1", "fc2"):
        assert (net.vertices[name].module.weight == 2).all()
        assert (net.vertices[name].module.bias == 0.5).all()
    assert not (net.vertices["predictions"].module.weight == 2).any()


def test_consecutive_layers_keep_both_changes(vgg):
    edits = [("n_out_replace", "block1_conv1", 7, tl.Constant(1), tl.Constant(2)),
             ("n_out_replace", "block1_conv2", 9, tl.Constant(3), tl.Constant(4))]  # fmt: skip
    for order in (edits, edits[::-1]):
        net = apply(vgg, order)
        first, second, third = (net.vertices[n].module for n in ("block1_conv1", "block1_conv2", "block2_conv1"))
        assert (first.out_channels, second.in_channels, second.out_channels, third.in_channels) == (7, 7, 9, 9)
        assert [layer.weight.mean().item() for layer in (first, second, third)] == [1, 3, 4]
        assert runs(net) == (2, 10)


def test_what_is_said_of_a_layer_itself_wins_over_the_layer_before(vgg):
    edits = [("n_out_replace", "fc1", 20, None, tl.Constant(2)), ("n_out_replace", "fc2", 20)]
    assert (apply(vgg, edits).vertices["fc2"].module.weight == 2).all()
    edits = [("n_out_replace", "fc1", 20, None, tl.Constant(2)), ("n_out_replace", "fc2", 20, tl.Constant(3))]
    assert (apply(vgg, edits).vertices["fc2"].module.weight == 3).all()


def test_contradicting_widths_or_schemes_are_an_error(vgg):
    with pytest.raises(ValueError, match="n_out_replace was called twice for 'fc1'"):
        apply(vgg, [("n_out_replace", "fc1", 20), ("n_out_replace", "fc1", 21)])
    with pytest.raises(ValueError, match=r"'fc1' would be drawn by 'xavier' and by 'relu'. Give one weight_init"):
        apply(vgg, [("n_out_replace", "fc1", 20, "xavier"), ("n_in_replace", "fc1", 8 * 49, "relu")])


def test_the_output_layer_takes_a_new_width_too(vgg):
    net = apply(vgg, [("n_out_replace", "predictions", 3)])
    assert runs(net) == (2, 3)


def test_n_in_replace_draws_one_layer_anew_and_leaves_its_neighbors(vgg):
    edits = [
        ("remove_vertex_keep_connections", "fc1"),
        ("add_layer", "fc1", tl.Dense(20), "flatten"),
        ("n_in_replace", "fc2", 20, tl.Constant(1)),
    ]
    net = apply(vgg, edits)
    assert (net.vertices["fc2"].module.weight == 1).all()
    assert net.vertices["fc2"].module.in_features == 20
    assert torch.equal(net.vertices["predictions"].module.weight, vgg.vertices["predictions"].module.weight)
    with pytest.raises(ValueError, match="n_in_replace gives it 21 inputs, but what it reads has 20"):
        apply(vgg, [*edits[:2], ("n_in_replace", "fc2", 21)])


def test_a_new_width_passes_through_new_vertices_without_weights(vgg):
    edits = [
        ("n_out_replace", "block5_conv3", 5),
        ("remove_vertex_keep_connections", "block5_pool"),
        ("add_vertex", "block5_pool", tl.Pool2d("average"), "block5_conv3"),
    ]
    net = apply(vgg, edits)
    assert net.vertices["fc1"].module.in_features == 5 * 49


def test_a_new_width_cannot_reach_into_an_addition_or_a_merge():
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Linear(4, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x):
            x = self.first(x)
            return self.head(x + self.second(x))

    net = tl.Network.from_module(Residual(), [torch.zeros(1, 4)], granularity="layer")
    message = r"reaches '\w+' \(Add\), which also depends on other widths.*remove_vertex_and_connections"
    for name in ("first", "second"):
        with pytest.raises(ValueError, match=message):
            tl.TransferLearning(net).n_out_replace(name, 6).build()
    merged = apply(net, [("add_vertex", "both", tl.Merge(), "first", "second"), ("set_outputs", "both", "head")])
    with pytest.raises(ValueError, match=r"which also depends on other widths"):
        tl.TransferLearning(merged).n_out_replace("second", 6).build()


def test_a_width_can_be_changed_on_single_layers_of_the_original_only(vgg):
    with pytest.raises(ValueError, match=r"'block5_pool' is a MaxPool2d, not a single layer.*'fc1'.*'predictions'"):
        apply(vgg, [("n_out_replace", "block5_pool", 5)])
    with pytest.raises(ValueError, match="'predictions' is removed in the same build"):
        apply(vgg, [("remove_layers_from_output", 1), ("n_out_replace", "predictions", 5)])
    new = [("remove_vertex_keep_connections", "fc2"), ("add_layer", "fc2", tl.Dense(12), "fc1")]
    with pytest.raises(ValueError, match="'fc2' is new: give its width in its description"):
        apply(vgg, [*new, ("n_out_replace", "fc2", 5)])


def test_a_changed_layer_keeps_its_form_and_what_belongs_to_it():
    net = imported(
        nn.Conv2d(3, 4, 3, stride=2, padding=1, dilation=1, bias=False), nn.BatchNorm2d(4, eps=0.01), nn.Tanh(),
        nn.Conv2d(4, 2, 1), nn.Flatten(),
    )  # fmt: skip
    layer = tl.TransferLearning(net).n_out_replace("0", 6).build().vertices["0"].module
    assert (layer.stride, layer.padding, layer.bias) == ((2, 2), (1, 1), None)
    assert layer.norm.eps == 0.01
    assert layer.norm.num_features == 6
    assert isinstance(layer.activation, nn.Tanh)


# -- freezing -------------------------------------------------------------------------------------------------------


def test_several_boundaries_freeze_what_feeds_them_and_nothing_else(vgg):
    edits = [
        ("add_vertex", "left", tl.Subset(0, 3), "flatten"),
        ("add_layer", "right", tl.Dense(3), "flatten"),
        ("add_vertex", "both", tl.Merge(), "left", "right", "fc1"),
        ("add_layer", "answer", tl.Output(2), "both"),
        ("set_outputs", "answer", "predictions"),
        ("set_feature_extractor", "left", "fc1"),
    ]
    net = apply(vgg, edits)
    assert net.frozen == net.ancestors("left", "fc1")
    assert not net.frozen & {"right", "both", "answer", "fc2", "predictions"}


def test_setting_the_boundary_again_sets_it_exactly(vgg):
    net = tl.TransferLearning(vgg).set_feature_extractor("fc2").build()
    earlier = tl.TransferLearning(net).set_feature_extractor("block2_pool").build()
    assert earlier.frozen == earlier.ancestors("block2_pool")
    trainable = {name.split(".")[0] for name, weight in earlier.named_parameters() if weight.requires_grad}
    assert trainable == {name for name in earlier.vertices if name.startswith(("block3_c", "block4_c", "block5_c"))} | {
        "fc1",
        "fc2",
        "predictions",
    }
    assert tl.TransferLearning(net).set_feature_extractor().build().frozen == frozenset()


def test_frozen_marks_are_kept_when_the_boundary_is_not_set(vgg):
    net = tl.TransferLearning(vgg).set_feature_extractor("block4_pool").build()
    net.freeze("fc2", backprop=True)
    after = apply(net, [("n_out_replace", "predictions", 5)])
    assert after.frozen == net.frozen
    assert after.passing == {"fc2"}


def test_what_is_drawn_anew_or_reads_something_new_is_not_frozen_by_old_marks(vgg):
    net = tl.TransferLearning(vgg).set_feature_extractor("fc2").build()
    redrawn = apply(net, [("n_out_replace", "fc1", 20)])
    assert redrawn.frozen == net.ancestors("flatten")
    added = [
        ("remove_vertex_keep_connections", "block5_pool"),
        ("add_vertex", "block5_pool", tl.Pool2d(), "block5_conv3"),
    ]
    assert apply(net, added).frozen == net.ancestors("block5_conv3")


def test_a_new_vertex_can_be_the_boundary(vgg):
    net = apply(vgg, [("add_vertex", "new", tl.Merge(), "fc1", "flatten"), ("set_outputs", "new", "predictions"),
                      ("set_feature_extractor", "new")])  # fmt: skip
    assert net.frozen == net.ancestors("new")


def test_weights_that_would_be_drawn_and_frozen_at_once_are_warned_of(vgg):
    text = r"weights of 'fc1' and 'fc2' are drawn anew and frozen at once, so they stay random\. Freeze before them"
    with pytest.warns(UserWarning, match=text) as seen:
        apply(vgg, [("n_out_replace", "fc1", 7), ("set_feature_extractor", "fc2")])
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="weights of 'new' are drawn anew"):
        apply(
            vgg,
            [
                ("add_layer", "new", tl.Dense(3), "fc1"),
                ("set_outputs", "new", "predictions"),
                ("set_feature_extractor", "new"),
            ],
        )


# -- what else a network carries ------------------------------------------------------------------------------------


def test_class_names_stay_with_answers_that_stay():
    net = narrow_vgg16(classes=3)
    net.classes = ("a", "b", "c")
    assert tl.TransferLearning(net).set_feature_extractor("fc1").build().classes == net.classes
    assert apply(net, [("n_out_replace", "block1_conv1", 5)]).classes == net.classes
    head = [("remove_vertex_keep_connections", "predictions"), ("add_layer", "predictions", tl.Output(3), "fc2")]
    assert apply(net, head).classes == ()
    assert apply(net, [("n_out_replace", "predictions", 4)]).classes == ()
    assert apply(net, [("remove_vertex_and_connections", "predictions"), ("set_outputs", "fc2")]).classes == ()


def test_class_names_go_when_the_layer_before_a_last_pooling_is_replaced():
    net = imported(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.classes = ("a", "b", "c")
    *_, layer, end = net.vertices
    assert net.outputs == (end,)
    new = [("remove_vertex_keep_connections", layer), ("add_layer", layer, tl.Conv2d(5, 1), "0")]
    assert apply(net, new).classes == ()
    assert tl.TransferLearning(net).n_out_replace(layer, 5).build().classes == ()
    assert tl.TransferLearning(net).build().classes == net.classes


def test_landmarks_follow_the_edits(vgg):
    edits = [
        ("n_out_replace", "fc2", 20),
        ("remove_vertex_and_connections", "predictions"),
        ("add_layer", "fc3", tl.Dense(6), "fc2"),
        ("add_layer", "new", tl.Output(5), "fc3"),
        ("set_outputs", "new"),
    ]
    marks = apply(vgg, edits).landmarks
    assert (marks.head, marks.penultimate, marks.hidden) == ("new", "fc3", "fc2")
    assert (marks.bottleneck, marks.fine_tune_from) == (vgg.landmarks.bottleneck, vgg.landmarks.fine_tune_from)
    short = [("remove_layers_from_output", 3), ("add_layer", "head", tl.Output(5), "flatten"), ("set_outputs", "head")]
    marks = apply(vgg, short).landmarks
    assert (marks.head, marks.penultimate, marks.hidden) == ("head", "flatten", None)


def test_a_build_warns_about_nothing_without_reason(vgg):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apply(vgg, EDITS)


def test_a_recipe_is_plain_data_and_builds_the_same_again(vgg, edited):
    recipe = json.loads(json.dumps(edited.recipe))
    again = tl.TransferLearning.replay(vgg, recipe["edits"][-1])
    assert furthest(weights(edited), weights(again)) == 0
    assert json.loads(json.dumps(again.recipe)) == recipe


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


def test_a_state_dict_of_a_built_network_is_written_by_vertex_name(vgg):
    stream = io.BytesIO()
    net = edit_the_last_layer(vgg)
    torch.save(net.state_dict(), stream)
    stream.seek(0)
    other = edit_the_last_layer(vgg)
    with torch.no_grad():
        other.vertices["predictions"].module.weight.zero_()
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(pictures(2)[0]), net(pictures(2)[0]))
