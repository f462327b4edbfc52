from __future__ import annotations

import pytest
import torch
from nets import apply, chain, furthest, imported, runs, seeded, weights
from torch import nn

import tlkit as tl

# -- how weights are drawn ------------------------------------------------------------------------------------------


def test_without_schemes_the_configuration_says_how_to_draw(vgg):
    tuning = tl.FineTuneConfiguration(weight_init=tl.Constant(2), bias_init=0.5)
    net = apply(vgg, ("fine_tune_configuration", tuning), ("n_out_replace", "fc1", 50))
    for name in ("fc1", "fc2"):
        assert (net.vertices[name].module.weight == 2).all()
        assert (net.vertices[name].module.bias == 0.5).all()
    assert not (net.vertices["predictions"].module.weight == 2).any()


def test_what_is_said_of_a_layer_itself_wins_over_the_layer_before(vgg):
    edits = [("n_out_replace", "fc1", 20, None, tl.Constant(2)), ("n_out_replace", "fc2", 20)]
    assert (apply(vgg, *edits).vertices["fc2"].module.weight == 2).all()
    edits = [("n_out_replace", "fc1", 20, None, tl.Constant(2)), ("n_out_replace", "fc2", 20, tl.Constant(3))]
    assert (apply(vgg, *edits).vertices["fc2"].module.weight == 3).all()


def test_contradicting_widths_or_schemes_are_an_error(vgg):
    with pytest.raises(ValueError, match="n_out_replace was called twice for 'fc1'"):
        apply(vgg, ("n_out_replace", "fc1", 20), ("n_out_replace", "fc1", 21))
    with pytest.raises(ValueError, match=r"'fc1' would be drawn by 'xavier' and by 'relu'. Give one weight_init"):
        apply(vgg, ("n_out_replace", "fc1", 20, "xavier"), ("n_in_replace", "fc1", 8 * 49, "relu"))


def test_n_in_replace_draws_one_layer_anew_and_leaves_its_neighbors(vgg):
    edits = [
        ("remove_vertex_keep_connections", "fc1"),
        ("add_layer", "fc1", tl.Dense(20), "flatten"),
        ("n_in_replace", "fc2", 20, tl.Constant(1)),
    ]
    net = apply(vgg, *edits)
    assert (net.vertices["fc2"].module.weight == 1).all()
    assert net.vertices["fc2"].module.in_features == 20
    assert torch.equal(net.vertices["predictions"].module.weight, vgg.vertices["predictions"].module.weight)
    with pytest.raises(ValueError, match="n_in_replace gives it 21 inputs, but what it reads has 20"):
        apply(vgg, *edits[:2], ("n_in_replace", "fc2", 21))


def test_a_width_can_be_changed_on_single_layers_of_the_original_only(vgg):
    with pytest.raises(ValueError, match=r"'block5_pool' is a MaxPool2d, not a single layer.*'fc1'.*'predictions'"):
        apply(vgg, ("n_out_replace", "block5_pool", 5))
    with pytest.raises(ValueError, match="'predictions' is removed in the same build"):
        apply(vgg, ("remove_layers_from_output", 1), ("n_out_replace", "predictions", 5))
    new = [("remove_vertex_keep_connections", "fc2"), ("add_layer", "fc2", tl.Dense(12), "fc1")]
    with pytest.raises(ValueError, match="'fc2' is new: give its width in its description"):
        apply(vgg, *new, ("n_out_replace", "fc2", 5))


# -- what passes a new width on -------------------------------------------------------------------------------------


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
    behind = (
        nn.Dropout2d(0.1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.1),
        nn.Linear(4 * area, 5),
        nn.ReLU(),
        nn.Linear(5, 2),
    )
    net = imported(nn.Conv2d(3, 4, 1), module, *behind)
    *_, reader, last = net.vertices
    wide = apply(net, ("n_out_replace", "0", 7, "relu", "ones"))
    assert wide.vertices["0"].module.out_channels == 7
    assert wide.vertices[reader].module.in_features == 7 * area
    assert (wide.vertices[reader].module.weight == 1).all()
    assert torch.equal(wide.vertices[last].module.weight, net.vertices[last].module.weight)
    assert runs(wide) == (2, 2)


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


def test_a_new_width_passes_through_new_vertices_without_weights(vgg):
    edits = [
        ("n_out_replace", "block5_conv3", 5),
        ("remove_vertex_keep_connections", "block5_pool"),
        ("add_vertex", "block5_pool", tl.Pool2d("average"), "block5_conv3"),
    ]
    net = apply(vgg, *edits)
    assert net.vertices["fc1"].module.in_features == 5 * 49


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
    assert not norm or modules[depthwise].norm.num_features == 6
    assert modules[last].in_channels == 6
    assert modules[last].out_channels == 5
    assert (modules[depthwise].weight == 1).all()
    assert (modules[last].weight == 1).all()
    assert runs(wide)[0] == 2
    with pytest.raises(ValueError, match=f"'{depthwise}' is a depthwise convolution.*Change what it reads, '{first}'"):
        tl.TransferLearning(net).n_out_replace(depthwise, 8).build()


def test_a_convolution_with_several_filters_a_channel_is_a_grouped_one():
    net = imported(
        nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8), nn.Conv2d(8, 6, 1)
    )
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


# -- what stops it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 8]), nn.PReLU(4)])
def test_what_has_weights_for_each_channel_and_is_no_batch_norm_stops_a_new_width(norm):
    net = imported(nn.Conv2d(3, 4, 1), nn.MaxPool2d(1), norm, nn.Conv2d(4, 2, 1))
    with pytest.raises(
        ValueError, match=rf"reaches '\w+' \({type(norm).__name__}\), which also depends on other widths"
    ):
        apply(net, ("n_out_replace", "0", 6))


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
