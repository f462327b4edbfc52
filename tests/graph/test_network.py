from __future__ import annotations

import copy
import itertools
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nets import chain, classifier, narrow_vgg16, seeded
from torch import nn

import tlkit as tl
from tlkit.graph.network import Network, Vertex


class Sum(nn.Module):
    def forward(self, *values):
        return sum(values)


class Probe(nn.Module):
    """Adds one, and hands its input or output to a function."""

    def __init__(self, look) -> None:
        super().__init__()
        self.look = look

    def forward(self, *values):
        self.look(self, *values)
        return sum(values) + 1


def linear(n_in: int = 4, n_out: int = 4) -> nn.Linear:
    with seeded(n_in + 10 * n_out):
        return nn.Linear(n_in, n_out)


def two_branches() -> Network:
    """Branches a-b and c read one image; "join" adds them and a raw second input; out answers."""
    with seeded(0):
        return Network(
            {
                "out": Vertex(nn.Linear(4, 2), ("join",)),
                "join": Vertex(Sum(), ("b", "c", "facts")),
                "b": Vertex(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5)), ("a",)),
                "a": Vertex(nn.Linear(4, 4), ("image",)),
                "c": Vertex(nn.Linear(4, 4), ("image",)),
            },
            inputs={"image": (4,), "facts": (4,)},
            outputs=["out"],
        )


def stack(*names: str, width: int = 4) -> Network:
    """A chain of linear layers of one width."""
    sources = ["x", *names]
    return Network(
        {name: Vertex(linear(width, width), (before,)) for name, before in zip(names, sources, strict=False)},
        inputs={"x": (width,)},
        outputs=[names[-1]],
    )


# -- order and names ------------------------------------------------------------------------------------------------


def test_vertices_follow_their_inputs_in_any_given_order():
    net = two_branches()
    names = list(net.vertices)
    assert set(names) == {"a", "b", "c", "join", "out"}
    for name, vertex in net.vertices.items():
        assert all(other in net.inputs or names.index(other) < names.index(name) for other in vertex.inputs)


def test_state_dict_keys_are_vertex_and_parameter():
    assert list(stack("one", "two").state_dict()) == ["one.weight", "one.bias", "two.weight", "two.bias"]


def test_single_names_need_no_tuple():
    net = Network({"hidden": Vertex(linear(), "x"), "answer": Vertex(linear(), "hidden")}, {"x": (4,)}, "answer")
    assert net.outputs == ("answer",)
    assert net.vertices["answer"].inputs == ("hidden",)


RESERVED = ["seed", "classes", "training", "outputs", "inputs", "frozen", "preprocessing", "optimizers", "recipe"]


@pytest.mark.parametrize("name", RESERVED)
def test_a_vertex_may_have_the_name_of_an_attribute(name):
    net = stack("before", name, "after")
    net.seed, net.classes, net.preprocessing = 3, ("a", "b"), None
    net.train().freeze("before")
    x = torch.randn(2, 4)
    expected = net(x)
    assert list(net.vertices) == ["before", name, "after"]
    assert net.seed == 3
    assert torch.equal(copy.deepcopy(net)(x), expected)
    front, back = net.split()
    assert torch.equal(back(front(x)), expected)


GOOD = {"a": Vertex(nn.Identity(), ("x",)), "b": Vertex(nn.Identity(), ("a",))}


@pytest.mark.parametrize(
    ("vertices", "inputs", "outputs", "sentence"),
    [
        ({"a.b": GOOD["a"]}, {"x": (1,)}, ["a.b"], r"no dots: write 'a_b' for 'a\.b'"),
        (GOOD, {"x": (1,), "y.z": (1,)}, ["b"], r"write 'y_z'"),
        (GOOD, {"x": (1,), "a": (1,)}, ["b"], "'a' names a network input and a vertex"),
        (GOOD, {"x": (1,)}, [], "at least one input and one output"),
        ({"a": Vertex(nn.Identity(), ())}, {}, ["a"], "at least one input"),
        ({**GOOD, "c": Vertex(nn.Identity(), ())}, {"x": (1,)}, ["b", "c"], "Vertex 'c' has no inputs"),
        ({"hidden": Vertex(nn.Identity(), ("images",))}, {"image": (1,)}, ["hidden"],
         r"'hidden' reads 'images', which does not exist\. Did you mean 'image'\?"),
        (GOOD, {"x": (1,)}, ["answer"], r"The output 'answer' does not exist"),
        (GOOD, {"x": (1,)}, ["a"], "Nothing reads 'b', and it is no output"),
        ({"a": Vertex(Sum(), ("x", "b")), "b": Vertex(nn.Identity(), ("a",))}, {"x": (1,)}, ["b"],
         "'a' and 'b' feed each other in a cycle"),
        ({"a": Vertex(nn.Identity(), ("a",))}, {"x": (1,)}, ["a"], "in a cycle"),
    ],
)  # fmt: skip
def test_a_graph_that_cannot_run_is_refused(vertices, inputs, outputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        Network(vertices, inputs, outputs)


def test_names_resolve_as_they_are_dotted_or_as_indices_of_a_chain():
    net = stack("layer1_0", "layer1_1", "fc")
    assert net.resolve("fc") == "fc"
    assert net.resolve("layer1.1") == "layer1_1"
    assert [net.resolve(index) for index in (0, 2, -1, -3)] == ["layer1_0", "fc", "fc", "layer1_0"]


def test_unknown_names_list_near_misses_and_where_to_look():
    net = stack("block1", "fc1", "fc2")
    with pytest.raises(KeyError, match=r"no vertex 'fc_2'\. Did you mean 'fc2'.*See list\(net\.vertices\)"):
        net.freeze("fc_2")
    with pytest.raises(TypeError, match="named by a text, or by its index in a chain of layers, got None"):
        net.freeze(None)
    with pytest.raises(KeyError, match="Index 3 is outside this network of 3 layers"):
        net.resolve(3)
    with pytest.raises(KeyError, match="Index -4"):
        net.resolve(-4)
    with pytest.raises(TypeError, match=r"Index 0 needs a chain of layers, and this network branches\. Use a vertex"):
        two_branches().resolve(0)


def test_landmarks_belong_to_the_zoo():
    with pytest.raises(ValueError, match=r"Only networks of tl\.zoo know their landmarks.*net\.cut_points"):
        stack("a").landmarks  # noqa: B018
    assert not stack("a").has_landmarks
    net = narrow_vgg16()
    assert net.has_landmarks
    assert net.landmarks.head == "predictions"
    net.landmarks = None
    assert not net.has_landmarks


def test_the_name_of_a_network_counts_its_vertices():
    assert repr(stack("a", "b").freeze("a")) == "Network(2 vertices, 1 frozen: x -> b)"


# -- running --------------------------------------------------------------------------------------------------------


def test_outputs_are_those_of_the_modules():
    net = two_branches()
    image, facts = torch.randn(3, 4), torch.randn(3, 4)
    modules = {name: vertex.module for name, vertex in net.vertices.items()}
    expected = modules["out"](modules["b"](modules["a"](image)) + modules["c"](image) + facts)
    assert torch.equal(net(image, facts), expected)
    assert torch.equal(net({"facts": facts, "image": image}), expected)


def test_several_outputs_keep_their_order_and_may_be_inputs():
    vertices = {"a": Vertex(linear(), "x"), "b": Vertex(linear(), "a")}
    net = Network(vertices, {"x": (4,), "y": (2,)}, ["b", "y", "a"])
    x, y = torch.randn(2, 4), torch.randn(2, 2)
    b, same, a = net(x, y)
    assert same is y
    assert torch.equal(a, vertices["a"].module(x))
    assert torch.equal(b, vertices["b"].module(a))


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ((torch.zeros(1, 4),), r"takes 2 inputs \('image' and 'facts'\), got 1"),
        ((torch.zeros(1, 4),) * 3, "got 3"),
        (({"image": torch.zeros(1, 4)},), "takes the inputs 'image' and 'facts', got 'image'"),
        (({},), "got none"),
        (({"image": 0, "facts": 0, "more": 0},), "got 'image', 'facts' and 'more'"),
    ],
)
def test_missing_and_surplus_inputs_are_named(inputs, sentence):
    with pytest.raises(ValueError, match=sentence):
        two_branches()(*inputs)


def test_a_wrong_shape_names_the_vertex_and_the_shape():
    net = stack("first", "second")
    with pytest.raises(RuntimeError, match=r"Vertex 'first' \(Linear\) cannot take an input of shape \(2, 5\)"):
        net(torch.zeros(2, 5))


def test_running_out_of_memory_stays_that():
    def burst(*_):
        raise torch.OutOfMemoryError

    net = Network({"a": Vertex(Probe(burst), "x")}, {"x": (1,)}, "a")
    with pytest.raises(torch.OutOfMemoryError):
        net(torch.zeros(1, 1))


def test_uint8_images_are_normalized_and_floats_are_taken_as_they_are():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    net = Network({"a": Vertex(nn.Flatten(), "x")}, {"x": (3, 4, 4)}, "a")
    with pytest.raises(TypeError, match=r"uint8 images but has no preprocessing.*net\.preprocessing = tl\.Prepro"):
        net(images)
    net.preprocessing = tl.Preprocessing(size=4, resize=4)
    assert torch.equal(net(images), net.preprocessing(images).flatten(1))
    assert torch.equal(net(images.float()), images.float().flatten(1))


def test_activations_are_dropped_after_their_last_reader():
    alive: dict[str, list[str]] = {}
    made: dict[str, weakref.ref] = {}

    def look(module, *values):
        alive[module.name] = sorted(name for name, ref in made.items() if ref() is not None)

    def keep(module, inputs, output):
        made[module.name] = weakref.ref(output)

    def probe(name):
        module = Probe(look)
        module.name = name
        module.register_forward_hook(keep)
        return module

    reads = {"a": "x", "b": "a", "c": "b", "d": ("b", "c"), "e": "d", "f": ("e", "b")}
    net = Network({name: Vertex(probe(name), inputs) for name, inputs in reads.items()}, {"x": (1,)}, ["c", "f"])
    with torch.no_grad():
        net(torch.zeros(1, 1))
    assert alive == {
        "a": [],
        "b": ["a"],
        "c": ["b"],  # a is gone
        "d": ["b", "c"],
        "e": ["b", "c", "d"],  # c is an output
        "f": ["b", "c", "e"],
    }


def test_preactivations_come_before_the_last_activation():
    x = torch.randn(2, 4)
    answering = classifier(4, 8, 3)
    raw = answering.preactivations(x)
    assert list(raw) == list(answering.outputs)
    assert torch.equal(raw["1"].softmax(1), answering(x))
    assert not torch.equal(raw["1"], answering(x))

    plain = chain(4, 8, 3)  # no activation behind its last layer
    assert torch.equal(plain.preactivations(x)["1"], plain(x))


@pytest.mark.parametrize(
    "make", [two_branches, narrow_vgg16, lambda: narrow_vgg16(batch_norm=True), lambda: stack("a", "b")]
)
def test_output_shapes_are_the_real_ones(make):
    net = make()
    shapes = net.output_shapes()
    assert list(shapes) == [*net.inputs, *net.vertices]
    every = Network(net.vertices, net.input_shapes, list(net.vertices))
    values = every({name: torch.zeros(2, *shape) for name, shape in net.input_shapes.items()})
    assert {name: tuple(v.shape[1:]) for name, v in zip(net.vertices, values, strict=True)}.items() <= shapes.items()


# -- random graphs --------------------------------------------------------------------------------------------------


@st.composite
def graphs(draw) -> Network:
    """Random graphs of up to nine vertices, one or two inputs, linear layers and sums, any outputs."""
    inputs = [f"i{n}" for n in range(draw(st.integers(1, 2)))]
    reads: dict[str, tuple[str, ...]] = {}
    for n in range(draw(st.integers(1, 9))):
        sources = [*inputs, *reads]
        recent = sources[-3:] if draw(st.booleans()) else sources  # chains make cut points
        reads[f"v{n}"] = tuple(draw(st.lists(st.sampled_from(recent), min_size=1, max_size=2, unique=True)))
    read = set(itertools.chain.from_iterable(reads.values()))
    outputs = [name for name in reads if name not in read]
    outputs += [name for name in reads if name in read and draw(st.integers(0, 9)) == 0]
    modules = {name: linear(3, 3) if len(sources) == 1 else Sum() for name, sources in reads.items()}
    order = draw(st.permutations(list(reads)))
    return Network({name: Vertex(modules[name], reads[name]) for name in order}, dict.fromkeys(inputs, (3,)), outputs)


def batch(net: Network, rows: int = 4) -> dict[str, torch.Tensor]:
    with seeded(5):
        return {name: torch.randn(rows, *shape) for name, shape in net.input_shapes.items()}


def as_tuple(value) -> tuple[torch.Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


def reachable(net: Network, name: str) -> set[str]:
    """The definition of ancestors, step by step."""
    found = {name}
    while True:
        more = {other for vertex in found for other in net.vertices[vertex].inputs if other in net.vertices} - found
        if not more:
            return found
        found |= more


@pytest.mark.slow
@given(graphs())
@settings(max_examples=60)
def test_cut_points_are_exactly_the_single_tensor_cuts(net):
    expected = []
    for name in net.vertices:
        front = reachable(net, name)
        crossing = {other for v in net.vertices if v not in front for other in net.vertices[v].inputs if
                    other in front or other in net.inputs}  # fmt: skip
        answered = {other for other in net.outputs if other in front}
        if crossing | answered == {name} and name not in net.outputs:
            expected.append(name)
    assert set(net.cut_points) == set(expected)
    assert list(net.cut_points) == [name for name in net.vertices if name in net.cut_points]


@pytest.mark.slow
@given(graphs(), st.data())
@settings(max_examples=60)
def test_freezing_takes_everything_that_feeds_a_vertex_and_nothing_else(net, data):
    names = data.draw(st.lists(st.sampled_from(list(net.vertices)), min_size=1, max_size=3, unique=True))
    net.freeze(*names)
    assert net.frozen == set().union(*(reachable(net, name) for name in names))
    for name, vertex in net.vertices.items():
        assert all(p.requires_grad == (name not in net.frozen) for p in vertex.module.parameters())


@pytest.mark.slow
@given(graphs(), st.data())
@settings(max_examples=60)
def test_front_then_back_is_the_whole(net, data):
    names = data.draw(st.lists(st.sampled_from(list(net.vertices)), min_size=1, max_size=3, unique=True))
    net.freeze(*names)
    if net.frozen == set(net.vertices):
        with pytest.raises(ValueError, match=r"Everything is frozen.*Unfreeze some"):
            net.split()
        return
    front, back = net.split()
    assert front.outputs == back.inputs == net.boundary()
    assert set(front.vertices) == net.frozen
    assert set(back.vertices) == set(net.vertices) - net.frozen
    x = batch(net)
    boundary = as_tuple(front(x))
    for found, expected in zip(as_tuple(back(*boundary)), as_tuple(net(x)), strict=True):
        assert torch.equal(found, expected)
    assert all(value.grad_fn is None for value in boundary)
    order = [*net.inputs, *net.vertices]
    assert list(net.boundary()) == sorted(net.boundary(), key=order.index)


@pytest.mark.slow
@given(graphs(), st.data())
@settings(max_examples=60)
def test_unfreezing_opens_what_lies_behind_and_keeps_the_rest(net, data):
    names = st.lists(st.sampled_from(list(net.vertices)), min_size=1, max_size=3, unique=True)
    net.freeze(*data.draw(names))
    before, chosen = net.frozen, set(data.draw(names))
    net.unfreeze(*chosen)
    assert net.frozen == {name for name in before if not reachable(net, name) & chosen}
    for name in net.frozen:
        assert reachable(net, name) <= net.frozen


@given(graphs())
@settings(max_examples=30)
def test_plain_modules_and_copies_answer_the_same(net):
    x = batch(net)
    expected = as_tuple(net(x))
    for other in (net.to_module(), copy.deepcopy(net)):
        found = as_tuple(other(*x.values()))
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_an_input_that_nothing_reads_hides_no_cut_points():
    net = stack("a", "b", "c")
    wider = Network(net.vertices, {"x": (4,), "unread": (1,)}, ["c"])
    assert wider.cut_points == net.cut_points == ("a", "b")


# -- frozen ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def frozen():
    return two_branches().freeze("b")


def test_frozen_vertices_run_in_evaluation_mode_whatever_train_says(frozen):
    frozen.train()
    assert frozen.training
    assert frozen.vertices["out"].module.training
    for name in ("a", "b"):
        assert not any(part.training for part in frozen.vertices[name].module.modules())
    image, facts = torch.randn(8, 4), torch.randn(8, 4)
    assert torch.equal(frozen(image, facts), frozen(image, facts))  # no dropout

    frozen.unfreeze().train()
    assert not torch.equal(frozen(image, facts), frozen(image, facts))


def test_frozen_batch_norm_statistics_stay(frozen):
    norm = frozen.vertices["b"].module[1]
    before = copy.deepcopy(norm.state_dict())
    frozen.train()(torch.randn(8, 4) + 3, torch.randn(8, 4))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())

    frozen.unfreeze().train()(torch.randn(8, 4) + 3, torch.randn(8, 4))
    assert not torch.equal(norm.running_mean, before["running_mean"])


def test_frozen_vertices_keep_no_activations_and_get_no_gradient(frozen):
    seen = {}
    for name, vertex in frozen.vertices.items():
        vertex.module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    frozen.train()(torch.randn(8, 4, requires_grad=True), torch.randn(8, 4)).sum().backward()
    assert seen["a"].grad_fn is None
    assert seen["b"].grad_fn is None
    assert seen["c"].grad_fn is not None
    for name, vertex in frozen.vertices.items():
        for parameter in vertex.module.parameters():
            assert (parameter.grad is None) == (name in frozen.frozen)
            assert parameter.requires_grad == (name not in frozen.frozen)


def test_frozen_vertices_stay_frozen_when_the_network_changes_its_mode_or_place(frozen):
    frozen.train().eval().train().double()
    assert frozen.frozen == {"a", "b"}
    assert not frozen.vertices["b"].module.training
    assert not frozen.vertices["b"].module[0].weight.requires_grad


def test_freezing_again_adds_and_unknown_names_change_nothing(frozen):
    frozen.freeze("c")
    assert frozen.frozen == {"a", "b", "c"}
    with pytest.raises(KeyError, match="no vertex 'nothing'"):
        frozen.freeze("out", "nothing")
    assert frozen.frozen == {"a", "b", "c"}


def test_freezing_exactly_sets_both_kinds_of_marks_and_takes_all_others_away():
    net = stack("a", "b", "c").freeze("c").freeze_exactly({"b": True, "a": False})
    assert (net.frozen, net.passing) == ({"a", "b"}, {"b"})
    assert [name for name, p in net.named_parameters() if p.requires_grad] == ["c.weight", "c.bias"]
    assert net.freeze_exactly({}).frozen == frozenset()


def test_weights_that_a_frozen_and_a_trainable_vertex_share_are_named_and_nothing_changes():
    net = stack("a", "b", "c")
    net.vertices["c"].module.weight = net.vertices["a"].module.weight
    net.freeze_exactly({"b": True})
    for refused in (net.check_shared_weights, net.freeze_exactly):
        with pytest.raises(ValueError, match=r"'a' and 'c' share their weights, so both must be frozen or neither"):
            refused({"a": False})
    net.check_shared_weights({"a", "c"})
    assert (net.frozen, net.passing) == ({"b"}, {"b"})


def test_gradients_pass_through_a_vertex_frozen_with_backprop():
    net = stack("a", "b", "c").freeze("b", backprop=True)
    assert net.frozen == net.passing == {"b"}
    assert net.boundary() == net.inputs  # nothing is left out of training
    optimizer = torch.optim.SGD((p for p in net.parameters() if p.requires_grad), lr=1.0)
    before = copy.deepcopy(net.state_dict())
    net.train()(torch.randn(5, 4)).square().sum().backward()
    optimizer.step()
    moved = {name.split(".")[0] for name, value in net.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"a", "c"}
    assert not net.vertices["b"].module.training


def test_a_vertex_frozen_with_backprop_belongs_to_the_trainable_part():
    net = stack("a", "b", "c", "d").freeze("a").freeze("c", backprop=True)
    front, back = net.split()
    assert list(front.vertices) == ["a"]
    assert list(back.vertices) == ["b", "c", "d"]
    assert back.passing == {"c"}
    net.unfreeze("a")
    assert net.frozen == {"c"}  # it lies behind, but only its own weights were held
    net.unfreeze("c")
    assert net.frozen == set()


def test_the_order_of_both_kinds_of_freezing_does_not_matter():
    first = stack("a", "b", "c", "d").freeze("b", backprop=True).freeze("c")
    second = stack("a", "b", "c", "d").freeze("c").freeze("b", backprop=True)
    for net in (first, second):
        assert net.frozen == {"a", "b", "c"}
        assert net.boundary() == ("c",)
        front, back = net.split()
        x = torch.randn(2, 4)
        assert torch.equal(back(front(x)), net(x))


def test_nothing_frozen_cannot_be_split():
    with pytest.raises(ValueError, match=r"Nothing is frozen, so there are no two parts.*net\.freeze\(name\)"):
        two_branches().split()
    with pytest.raises(ValueError, match="Nothing is frozen"):
        stack("a", "b").freeze("a", backprop=True).split()


# -- parts and copies -----------------------------------------------------------------------------------------------


def test_a_raw_input_that_crosses_is_normalized_once():
    net = Network(
        {
            "flat": Vertex(nn.Flatten(), "image"),
            "frozen": Vertex(linear(12, 3), "flat"),
            "raw": Vertex(nn.Flatten(), "image"),
            "side": Vertex(linear(12, 3), "raw"),
            "sum": Vertex(Sum(), ("frozen", "side")),
        },
        {"image": (3, 2, 2)},
        "sum",
        preprocessing=tl.Preprocessing(size=2, resize=2),
    ).freeze("frozen")
    assert net.boundary() == ("image", "frozen")
    front, back = net.split()
    images = torch.randint(0, 256, (5, 3, 2, 2), dtype=torch.uint8)
    assert torch.equal(back(*front(images)), net(images))
    assert torch.equal(back(dict(zip(back.inputs, front(images), strict=True))), net(images))


def test_an_output_inside_the_frozen_part_is_handed_on():
    net = Network(stack("a", "b", "c").vertices, {"x": (4,)}, ["a", "c"]).freeze("b")
    front, back = net.split()
    assert front.outputs == back.inputs == ("a", "b")
    x = torch.randn(2, 4)
    assert all(torch.equal(p, q) for p, q in zip(back(*front(x)), net(x), strict=True))


def test_parts_share_their_weights_with_the_whole(frozen):
    frozen.seed, frozen.classes = 7, ("yes", "no")
    front, back = frozen.train().split()
    assert back.seed == 7
    assert back.classes == ("yes", "no")
    assert back.training
    assert front.frozen == {"a", "b"}
    for part in (front, back):
        for name, vertex in part.vertices.items():
            assert vertex.module is frozen.vertices[name].module
    back(*front(torch.randn(8, 4), torch.randn(8, 4))).sum().backward()
    assert frozen.vertices["out"].module.weight.grad is not None
    assert frozen.vertices["a"].module.weight.grad is None


def test_splitting_does_not_change_the_modes_of_the_whole(frozen):
    for mode in (True, False):
        frozen.train(mode)
        before = [(name, part.training) for name, part in frozen.named_modules()]
        frozen.split()
        assert [(name, part.training) for name, part in frozen.named_modules()] == before


def test_settings_and_preprocessing_go_with_the_parts():
    from tlkit.layers.options import Settings

    vertices = stack("a", "b").vertices
    vertices["b"] = Vertex(vertices["b"].module, ("a",), Settings(l2=0.5))
    preprocessing = tl.Preprocessing()
    front, back = Network(vertices, {"x": (4,)}, "b", preprocessing=preprocessing).freeze("a").split()
    assert back.vertices["b"].settings == Settings(l2=0.5)
    assert front.preprocessing is preprocessing
    assert back.preprocessing is None


def test_copies_are_equal_and_independent(frozen):
    other = copy.deepcopy(frozen)
    image, facts = torch.randn(3, 4), torch.randn(3, 4)
    assert torch.equal(other(image, facts), frozen(image, facts))
    assert other.frozen == frozen.frozen
    assert other.vertices["out"].inputs == ("join",)
    with torch.no_grad():
        other.vertices["out"].module.weight.add_(1)
    other.unfreeze()
    assert not torch.equal(other(image, facts), frozen(image, facts))
    assert frozen.frozen == {"a", "b"}
    assert not frozen.vertices["a"].module.weight.requires_grad


def test_a_plain_module_keeps_names_weights_and_mode():
    net = narrow_vgg16()
    plain = net.to_module()
    assert list(plain.state_dict()) == list(net.state_dict())
    assert plain.get_submodule("fc1").weight is net.vertices["fc1"].module.weight
    assert not plain.training
    assert not any(part.training for part in plain.modules())
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(x), net(x))


@pytest.mark.parametrize("name", ["class", "graph", "training", "forward", "0", "a b"])
def test_a_plain_module_exists_whatever_its_vertices_are_called(name):
    vertices = {name: Vertex(nn.Linear(4, 4), ["in"]), f"{name}_": Vertex(nn.Linear(4, 2), [name])}
    net = tl.Network(vertices, {"in": (4,)}, [f"{name}_"])
    x = torch.randn(3, 4)
    assert torch.equal(net.to_module()(x), net(x))
