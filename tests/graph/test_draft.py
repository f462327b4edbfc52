"""How the vertices of an edited network are made, frozen and described."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from nets import (
    apply,
    blobs,
    branches,
    chain,
    classifier,
    furthest,
    imported,
    moved,
    narrow_vgg16,
    pairs,
    pictures,
    seeded,
    weights,
)
from torch import nn

import tlkit as tl
from tlkit.layers.options import Settings

# -- modules --------------------------------------------------------------------------------------------------------


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
    net = apply(vgg, *edits)
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


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
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
    assert {answer.dtype for answer in built(torch.zeros(2, 3, 8, 8, dtype=dtype, device=device))} == {dtype}


def test_a_width_that_does_not_fit_is_an_error_that_names_the_vertices(vgg):
    with pytest.raises(ValueError, match=r"Vertex 'fc2' cannot read 'fc1' of shape \(99,\)"):
        apply(vgg, ("remove_vertex_keep_connections", "fc1"), ("add_layer", "fc1", tl.Dense(99), "flatten"))
    with pytest.raises(ValueError, match=r"Vertex 'sum' cannot read 'fc1' and 'fc2' of shape \(16,\) and \(12,\)"):
        apply(vgg, ("add_vertex", "sum", tl.ElementWise(), "fc1", "fc2"), ("set_outputs", "sum", "predictions"))
    with pytest.raises(ValueError, match=r"'new' cannot read 'block5_pool' .*Dense takes a flat input.*tl.Flatten"):
        apply(vgg, ("add_layer", "new", tl.Dense(3), "block5_pool"), ("set_outputs", "new", "predictions"))
    with pytest.raises(ValueError, match=r"Dense\(n_in=99\) reads an input of size 16. Leave n_in out"):
        apply(vgg, ("add_layer", "new", tl.Dense(3, n_in=99), "fc1"), ("set_outputs", "new", "predictions"))


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


# -- freezing -------------------------------------------------------------------------------------------------------


def test_boundaries_freeze_the_same_in_any_order_named_twice_or_one_feeding_the_other():
    net = branches()
    expected = net.ancestors("left1", "right2")
    for names in itertools.permutations(["left1", "right1", "right2", "left1"]):
        assert apply(net, ("set_feature_extractor", *names)).frozen == expected


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
    after = apply(net, ("n_out_replace", "predictions", 5))
    assert after.frozen == net.frozen
    assert after.passing == {"fc2"}


def test_what_is_drawn_anew_or_reads_something_new_is_not_frozen_by_old_marks(vgg):
    net = tl.TransferLearning(vgg).set_feature_extractor("fc2").build()
    redrawn = apply(net, ("n_out_replace", "fc1", 20))
    assert redrawn.frozen == net.ancestors("flatten")
    added = [
        ("remove_vertex_keep_connections", "block5_pool"),
        ("add_vertex", "block5_pool", tl.Pool2d(), "block5_conv3"),
    ]
    assert apply(net, *added).frozen == net.ancestors("block5_conv3")


def test_a_new_vertex_can_be_the_boundary(vgg):
    net = apply(vgg, ("add_vertex", "new", tl.Merge(), "fc1", "flatten"), ("set_outputs", "new", "predictions"),
                      ("set_feature_extractor", "new"))  # fmt: skip
    assert net.frozen == net.ancestors("new")


def test_weights_that_would_be_drawn_and_frozen_at_once_are_warned_of(vgg):
    text = r"weights of 'fc1' and 'fc2' are drawn anew and frozen at once, so they stay random\. Freeze before them"
    with pytest.warns(UserWarning, match=text) as seen:
        tl.TransferLearning(vgg).n_out_replace("fc1", 7).set_feature_extractor("fc2").build()
    assert seen[0].filename == __file__
    with pytest.warns(UserWarning, match="weights of 'new' are drawn anew"):
        apply(
            vgg,
            ("add_layer", "new", tl.Dense(3), "fc1"),
            ("set_outputs", "new", "predictions"),
            ("set_feature_extractor", "new"),
        )


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
def test_batch_norm_that_is_unfrozen_follows_the_data_again_where_that_is_asked_for(kind):
    net = normalized(kind)
    free = tl.FineTuneConfiguration(fixed_statistics=False)
    built = apply(net, ("fine_tune_configuration", free), ("set_feature_extractor",))
    before, original = weights(built), weights(net)
    tl.fit(built, images(), epochs=2, progress=False)
    changed = {name for name, value in built.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.rsplit(".", 1)[1] for name in changed} >= {"running_mean", "running_var", "num_batches_tracked"}
    assert furthest(weights(net), original) == 0


# -- what else a network carries ------------------------------------------------------------------------------------


def test_class_names_stay_with_answers_that_stay():
    net = narrow_vgg16(classes=3)
    net.classes = ("a", "b", "c")
    assert tl.TransferLearning(net).set_feature_extractor("fc1").build().classes == net.classes
    assert apply(net, ("n_out_replace", "block1_conv1", 5)).classes == net.classes
    head = [("remove_vertex_keep_connections", "predictions"), ("add_layer", "predictions", tl.Output(3), "fc2")]
    assert apply(net, *head).classes == ()
    assert apply(net, ("n_out_replace", "predictions", 4)).classes == ()
    assert apply(net, ("remove_vertex_and_connections", "predictions"), ("set_outputs", "fc2")).classes == ()


def test_class_names_go_when_the_layer_before_a_last_pooling_is_replaced():
    net = imported(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.classes = ("a", "b", "c")
    *_, layer, end = net.vertices
    assert net.outputs == (end,)
    new = [("remove_vertex_keep_connections", layer), ("add_layer", layer, tl.Conv2d(5, 1), "0")]
    assert apply(net, *new).classes == ()
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
    marks = apply(vgg, *edits).landmarks
    assert (marks.head, marks.penultimate, marks.hidden) == ("new", "fc3", "fc2")
    assert (marks.bottleneck, marks.fine_tune_from) == (vgg.landmarks.bottleneck, vgg.landmarks.fine_tune_from)
    short = [("remove_layers_from_output", 3), ("add_layer", "head", tl.Output(5), "flatten"), ("set_outputs", "head")]
    marks = apply(vgg, *short).landmarks
    assert (marks.head, marks.penultimate, marks.hidden) == ("head", "flatten", None)
