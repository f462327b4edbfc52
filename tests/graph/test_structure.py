"""Who reads whom once the edits of a builder are applied: removing, adding, outputs, chains."""

from __future__ import annotations

import itertools

import pytest
import torch
from nets import apply, chain, pictures, seeded
from torch import nn

import tlkit as tl

# -- removing -------------------------------------------------------------------------------------------------------


def test_removing_a_vertex_keeps_or_cuts_its_connections(vgg):
    kept = apply(vgg, ("remove_vertex_keep_connections", "fc2"), ("add_layer", "fc2", tl.Dense(12), "fc1"))
    assert kept.vertices["predictions"].inputs == ("fc2",)
    assert kept.outputs == ("predictions",)

    two = apply(vgg, ("add_layer", "side", tl.Dense(3), "fc1"), ("set_outputs", "predictions", "side"))
    cut = tl.TransferLearning(two).remove_vertex_and_connections("side").build()
    assert cut.outputs == ("predictions",)

    merged = apply(two, ("add_vertex", "both", tl.Merge(), "predictions", "side"), ("set_outputs", "both"))
    cut = tl.TransferLearning(merged).remove_vertex_and_connections("side").build()
    assert cut.vertices["both"].inputs == ("predictions",)
    assert cut.output_shapes()["both"] == (10,)


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
    for one in REMOVALS:
        with pytest.raises(ValueError, match="Vertex '1' is removed twice"):
            apply(chain(4, 5, 5, 3), (one, 1), ("remove_layers_from_output", 2))


def test_kept_connections_that_lead_nowhere_are_an_error_that_says_what_to_add(vgg):
    with pytest.raises(ValueError, match=r"'predictions' .* still an output. Add .* add_layer\('predictions', ...\)"):
        apply(vgg, ("remove_vertex_keep_connections", "predictions"))
    with pytest.raises(ValueError, match="'fc1' was removed with its connections kept, and 'fc2' still read it"):
        apply(vgg, ("remove_vertex_keep_connections", "fc1"))


def test_cut_connections_that_leave_a_gap_are_an_error_that_names_it(vgg):
    with pytest.raises(ValueError, match="Vertex 'predictions' has no inputs"):
        apply(vgg, ("remove_vertex_and_connections", "fc2"))
    with pytest.raises(ValueError, match=r"no output. Name what it answers with: set_outputs\(...\). It ends in 'fc2'"):
        apply(vgg, ("remove_vertex_and_connections", "predictions"))
    with pytest.raises(ValueError, match="Nothing reads 'fc2', and it is no output"):
        apply(vgg, ("remove_vertex_and_connections", "predictions"), ("set_outputs", "fc1"))


# -- adding ---------------------------------------------------------------------------------------------------------


def test_adding_a_name_that_exists_is_an_error(vgg):
    with pytest.raises(ValueError, match=r"There is already a vertex 'fc2'. Remove it first"):
        apply(vgg, ("add_layer", "fc2", tl.Dense(3), "fc1"))
    with pytest.raises(ValueError, match="There is already a vertex 'new'"):
        apply(vgg, ("add_layer", "new", tl.Dense(3), "fc1"), ("add_vertex", "new", tl.Flatten(), "fc2"))
    again = ("add_layer", "1", tl.Dense(2)), ("add_layer", "1", tl.Dense(2), "0")
    with pytest.raises(ValueError, match="There is already a vertex '1'"):
        apply(chain(4, 5, 3), ("remove_output_layer",), *again)
    with pytest.raises(ValueError, match="There is already a vertex 'new_merge'"):
        apply(vgg, ("add_vertex", "new_merge", tl.Flatten(), "fc1"), ("add_layer", "new", tl.Dense(3), "fc1", "fc2"))


def test_a_name_with_a_dot_is_answered_with_one_that_works(vgg):
    with pytest.raises(ValueError, match=r"write 'my_head' for 'my.head'"):
        apply(vgg, ("add_layer", "my.head", tl.Dense(3), "fc1"), ("set_outputs", "my.head", "predictions"))


UNKNOWN = {
    "set_feature_extractor": ("fc1", "fc_2"),
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
        apply(vgg, (method, *UNKNOWN[method]))


@pytest.mark.parametrize("method", ["set_outputs", "add_layer", "add_vertex"])
def test_a_removed_name_is_said_to_be_removed(vgg, method):
    rest = {"set_outputs": (), "add_layer": (tl.Dense(2),), "add_vertex": (tl.Flatten(),)}[method]
    arguments = ("new", *rest, "predictions") if rest else ("predictions",)
    with pytest.raises(KeyError, match=r"no vertex 'predictions'. It was removed."):
        apply(vgg, ("remove_vertex_and_connections", "predictions"), (method, *arguments))


def test_dotted_module_paths_are_names_too():
    net = tl.Network.from_module(nn.Sequential(nn.Sequential(nn.Linear(4, 5)), nn.Linear(5, 3)), [torch.zeros(1, 4)])
    built = apply(
        net, ("set_feature_extractor", "0.0"), ("add_layer", "new", tl.Dense(2), "0.0"), ("set_outputs", "1", "new")
    )
    assert built.frozen == {"0_0"}
    assert built.vertices["new"].inputs == ("0_0",)


def test_a_layer_with_several_inputs_reads_a_merge_of_them(vgg):
    net = apply(vgg, ("add_layer", "new", tl.Output(3), "fc1", "fc2"), ("set_outputs", "predictions", "new"))
    assert net.vertices["new_merge"].inputs == ("fc1", "fc2")
    assert net.vertices["new"].inputs == ("new_merge",)
    assert net.vertices["new"].module.in_features == 16 + 12


def test_a_cycle_is_an_error_that_names_it(vgg):
    edits = [("add_layer", "a", tl.Dense(3), "b"), ("add_layer", "b", tl.Dense(3), "a")]
    with pytest.raises(ValueError, match="'a' and 'b' feed each other in a cycle"):
        apply(vgg, *edits, ("set_outputs", "a", "predictions"))


# -- outputs and inputs ---------------------------------------------------------------------------------------------


def test_set_outputs_replaces_the_outputs_and_their_order(vgg):
    net = apply(vgg, ("add_layer", "side", tl.Output(3), "fc1"), ("set_outputs", "side", "predictions"))
    assert net.outputs == ("side", "predictions")
    assert [tuple(answer.shape) for answer in net(pictures(2)[0])] == [(2, 3), (2, 10)]
    inner = apply(vgg, ("remove_vertex_and_connections", "predictions"), ("set_outputs", "fc2"))
    assert inner.outputs == ("fc2",)


def test_set_inputs_gives_the_network_other_inputs():
    net = chain(4, 5, 3)
    edits = [
        ("remove_vertex_and_connections", "0"),
        ("remove_vertex_and_connections", "1"),
        ("add_layer", "answer", tl.Output(3), "left", "right"),
        ("set_inputs", {"left": (4,), "right": (2,)}),
        ("set_outputs", "answer"),
    ]
    built = apply(net, *edits)
    assert built.inputs == ("left", "right")
    assert built.input_shapes == {"left": (4,), "right": (2,)}
    assert built(torch.zeros(2, 4), torch.zeros(2, 2)).shape == (2, 3)


def test_set_inputs_may_change_the_size_of_the_images(vgg):
    net = apply(vgg, ("set_inputs", {vgg.inputs[0]: (3, 64, 64)}))
    assert net.output_shapes()["block5_pool"] == (8, 2, 2)
    assert torch.equal(net(pictures(2)[0]), vgg(pictures(2)[0]))


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
    built = apply(net, *edits)
    assert built.frozen == {"0"}
    assert apply(net, ("set_feature_extractor", "0", 1)).frozen == {"0", "1"}
    assert built.vertices["1"].module.out_features == 9
    assert built.vertices["2"].inputs == built.vertices["side"].inputs == ("1",)


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
    assert apply(net, *edits, ("set_outputs", "b", "a")).outputs == ("b", "a")
    with pytest.raises(ValueError, match=r"several ends, 'a' and 'b'. Name its outputs: set_outputs"):
        apply(net, *edits)


@pytest.mark.parametrize("n", [0, -1, 3, 4])
def test_a_chain_keeps_one_layer_at_least(n):
    with pytest.raises(ValueError, match=f"A chain of 3 layers cannot lose {n}. Give 1 to 2."):
        tl.TransferLearning(chain(4, 5, 6, 3)).remove_layers_from_output(n).build()


def test_a_layer_without_inputs_needs_one_end():
    net = apply(chain(4, 5, 3), ("add_layer", "side", tl.Dense(2), "0"), ("set_outputs", "1", "side"))
    with pytest.raises(ValueError, match="'new' has no inputs, which needs a chain with one end; found '1' and 'side'"):
        tl.TransferLearning(net).add_layer("new", tl.Dense(2)).build()
