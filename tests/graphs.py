"""Random networks, and random edits that are valid for them, for hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from hypothesis import strategies as st
from nets import seeded
from torch import Tensor, nn

import tlkit as tl
from tlkit.graph.shapes import run_on_meta
from tlkit.layers.modules import NORMS, WEIGHT_LAYERS
from tlkit.layers.options import GRADIENT_NORMALIZATIONS, Settings

Edit = tuple[Any, ...]  # method of the builder, arguments
Shape = tuple[int, ...]

UPDATERS = (tl.Sgd(0.02), tl.Nesterovs(0.01, 0.9), tl.Adam(0.01), tl.RmsProp(0.002))
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "leakyrelu": nn.LeakyReLU}
ROWS = 6


# -- networks -------------------------------------------------------------------------------------------------------


@st.composite
def networks(draw: Any, *, marked: bool = True) -> tl.Network:
    """Networks of up to ten vertices with one or two inputs and outputs, images of 8 pixels or flat vectors.

    Each output is a `tl.Output`. With `marked`, some vertices are frozen, and the network may be in training mode.
    """
    shape = draw(st.sampled_from([(2, 8, 8), (3, 8, 8), (4,), (3,)]))
    inputs = dict.fromkeys(draw(st.sampled_from([("x",), ("left", "right")])), shape)
    shapes: dict[str, Shape] = dict(inputs)
    vertices: dict[str, tl.Vertex] = {}

    def add(name: str, module: nn.Module, *sources: str) -> None:
        vertices[name] = tl.Vertex(module, sources, draw(vertex_settings()))
        values = [torch.empty(2, *shapes[source], device="meta") for source in sources]
        shapes[name] = tuple(run_on_meta(module, *values).shape[1:])

    with seeded(draw(st.integers(0, 99))):
        for number in range(draw(st.integers(1, 7))):
            sources = draw(joined(shapes))
            kind = draw(st.sampled_from([*(JOINING if len(sources) > 1 else possible(shapes[sources[0]]))]))
            add(f"v{number}", KINDS[kind](draw, shapes[sources[0]]), *sources)
        read = {source for vertex in vertices.values() for source in vertex.inputs}
        ends = [name for name in vertices if name not in read][-2:]
        if len(ends) < 2 and draw(st.booleans()):
            ends.append(draw(st.sampled_from(list(vertices))))  # an answer from the middle
        for number, end in enumerate(ends):
            if len(shapes[end]) > 1:
                add(f"pool{number}", tl.GlobalPool().make(shapes[end]), end)
                end = f"pool{number}"
            add(f"answer{number}", output(draw(st.sampled_from(["nll", "mse"]))).make(shapes[end]), end)
        outputs = [name for name in vertices if name.startswith("answer")]
        kept = {name: vertices[name] for name in feeding(vertices, outputs)}
        for vertex in kept.values():
            randomize_statistics(vertex.module)
    order = draw(st.permutations(list(kept)))
    net = tl.Network({name: kept[name] for name in order}, inputs, outputs)
    net.seed = draw(st.sampled_from([None, 5]))
    if marked:
        net.classes = draw(st.sampled_from([(), ("a", "b", "c")]))
        net.freeze(*draw(some_names(net.vertices, least=0)))
        net.freeze(*draw(some_names(net.vertices, least=0)), backprop=True)
        net.train(draw(st.booleans()))
    return net


def vertex_settings() -> st.SearchStrategy[Settings]:
    return st.builds(
        Settings,
        updater=st.sampled_from([None, *UPDATERS]),
        l2=st.sampled_from([0.0, 0.01]),
        constraints=st.sampled_from([(), (tl.MaxNorm(1.5),)]),
    )


@st.composite
def joined(draw: Any, shapes: dict[str, Shape]) -> list[str]:
    """One source, mostly a recent one (that makes chains), or two of one shape."""
    names = list(shapes)
    source = draw(st.sampled_from(names[-2:] if draw(st.booleans()) else names))
    alike = [name for name in names if name != source and shapes[name] == shapes[source] and sum(shapes[name]) < 30]
    return [source, draw(st.sampled_from(alike))] if alike and draw(st.booleans()) else [source]


def some_names(names: Any, *, least: int = 1, most: int = 3) -> st.SearchStrategy[list[str]]:
    names = list(names)
    return st.lists(st.sampled_from(names), min_size=least, max_size=min(most, len(names)), unique=True)


def feeding(vertices: dict[str, tl.Vertex], outputs: list[str]) -> list[str]:
    found, todo = set(), list(outputs)
    while todo:
        name = todo.pop()
        if name in vertices and name not in found:
            found.add(name)
            todo.extend(vertices[name].inputs)
    return [name for name in vertices if name in found]


def output(loss: str, classes: int = 3) -> tl.Output:
    return tl.Output(classes, loss={"nll": "negative_log_likelihood", "mse": "mean_squared_error"}[loss])


def randomize_statistics(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, NORMS):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            part.num_batches_tracked.fill_(3)


# -- kinds of vertices: (draw, shape of the input) -> module --------------------------------------------------------


def convolution(draw: Any, shape: Shape, groups: int = 1) -> nn.Module:
    size = draw(st.sampled_from([1, 3]))
    width = shape[0] if groups == shape[0] else 2 * draw(st.integers(1, 2))
    return nn.Conv2d(shape[0], width, size, padding=size // 2, groups=groups, bias=draw(st.booleans()))


def layer(draw: Any, shape: Shape) -> nn.Module:
    """A description's module, with an activation, dropout and weight noise of its own."""
    options = {
        "activation": draw(st.sampled_from([None, *ACTIVATIONS])),
        "dropout": draw(st.sampled_from([None, 0.25])),
        "weight_noise": draw(st.sampled_from([None, tl.DropConnect(0.2)])),
    }
    width = draw(st.integers(2, 4))
    description = tl.Conv2d(width, 3, padding=1, **options) if len(shape) > 1 else tl.Dense(width, **options)
    return description.make(shape)


def block(draw: Any, shape: Shape) -> nn.Module:
    if len(shape) > 1:
        return nn.Sequential(nn.Conv2d(shape[0], 3, 1), nn.BatchNorm2d(3), nn.ReLU())
    return nn.Sequential(nn.Linear(shape[0], 3), nn.Dropout(0.2), nn.BatchNorm1d(3), nn.Tanh())


KINDS: dict[str, Callable[[Any, Shape], nn.Module]] = {
    "convolution": convolution,
    "grouped": lambda draw, shape: convolution(draw, shape, groups=2),
    "depthwise": lambda draw, shape: convolution(draw, shape, groups=shape[0]),
    "linear": lambda draw, shape: nn.Linear(shape[0], draw(st.integers(2, 4)), bias=draw(st.booleans())),
    "layer": layer,
    "block": block,
    "norm": lambda draw, shape: (nn.BatchNorm2d if len(shape) > 1 else nn.BatchNorm1d)(shape[0]),
    "layer_norm": lambda draw, shape: nn.LayerNorm(shape),
    "activation": lambda draw, shape: ACTIVATIONS[draw(st.sampled_from([*ACTIVATIONS]))](),
    "dropout": lambda draw, shape: (nn.Dropout2d if len(shape) > 1 and draw(st.booleans()) else nn.Dropout)(0.25),
    "pool": lambda draw, shape: draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))(2),
    "flatten": lambda draw, shape: nn.Flatten(),
    "add": lambda draw, shape: tl.ElementWise(draw(st.sampled_from(["add", "average", "max"]))).make(shape, shape),
    "concatenation": lambda draw, shape: tl.Merge().make(shape, shape),
}
JOINING = ("add", "concatenation")


def possible(shape: Shape) -> Iterator[str]:
    """Kinds that can read one tensor of this shape."""
    yield from ("layer", "block", "norm", "activation", "dropout")
    if len(shape) == 1:
        yield from ("linear", "layer_norm")
        return
    yield from ("convolution", "convolution", "flatten")
    yield from ("grouped",) if shape[0] % 2 == 0 else ()
    yield from ("depthwise",) if shape[0] > 1 else ()
    yield from ("pool",) if shape[1] > 1 else ()


# -- data -----------------------------------------------------------------------------------------------------------


def data_for(net: tl.Network, rows: int = ROWS) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and labels by name."""
    with seeded(7):
        x = {name: torch.randn(rows, *shape) for name, shape in net.input_shapes.items()}
        labels = {}
        for name in net.outputs:
            module = net.vertices[name].module
            units = net.output_shapes()[name][0]
            numbers = module.loss == "mean_squared_error"
            labels[name] = torch.randn(rows, units) if numbers else torch.randint(units, (rows,))
    return x, labels


# -- edits ----------------------------------------------------------------------------------------------------------


@st.composite
def edits(draw: Any, net: tl.Network) -> list[Edit]:
    """Valid edits in some order; no two of them depend on the order in which they are called."""
    dropped = droppable(net) if draw(st.booleans()) else []
    kept = [name for name in net.vertices if name not in dropped]
    found = [("fine_tune_configuration", draw(configurations()))]
    found += [("remove_vertex_and_connections", name) for name in dropped]
    old = [name for name in kept if is_replaceable(net.vertices[name].module)]
    replaced = draw(some_names(old, least=0, most=2)) if old else []
    for name in replaced:
        found.append(("remove_vertex_keep_connections", name))
        found.append(added(name, replacement(draw, net, name), *net.vertices[name].inputs))
    resizable = [name for name in kept if name not in replaced and reached(net, name) is not None]
    for name in draw(some_names(resizable, least=0, most=2)) if resizable else ():
        found.append(("n_out_replace", name, 2 * draw(st.integers(1, 3)), *draw(schemes())))
    before = [name for name in net.outputs if name not in dropped]
    grown, outputs = draw(growth(net, kept, before))
    found += grown
    if outputs != before or draw(st.booleans()):
        found.append(("set_outputs", *outputs))
    if draw(st.booleans()):
        found.append(("set_feature_extractor", *draw(some_names([*kept, *(edit[1] for edit in grown)], least=0))))
    return draw(st.permutations(found))


def droppable(net: tl.Network) -> list[str]:
    """An answer that can go with nothing but its own pooling, if there is another one."""
    *others, last = net.outputs
    alone = [name for name in net.vertices if name not in feeding(net.vertices, others)]
    return alone if others and set(alone) <= {last, last.replace("answer", "pool")} else []


def schemes() -> st.SearchStrategy[tuple[Any, Any]]:
    return st.sampled_from([(None, None), ("xavier", None), ("relu", tl.Normal(0, 0.1)), (None, "uniform")])


@st.composite
def growth(draw: Any, net: tl.Network, kept: list[str], outputs: list[str]) -> tuple[list[Edit], list[str]]:
    """New vertices behind old ones, and the outputs to answer with then."""
    shapes, found, outputs = net.output_shapes(), [], list(outputs)
    if draw(st.booleans()):  # an output on an inner vertex
        inner = draw(st.sampled_from(kept))
        if len(shapes[inner]) > 1:
            found.append(("add_vertex", "side_pool", tl.GlobalPool("max"), inner))
            inner = "side_pool"
        found.append(("add_layer", "side", output("nll", 4), inner))
        outputs.append("side")
    flat = [name for name in kept if len(shapes[name]) == 1]
    if draw(st.booleans()) and len(flat) > 1:  # a layer that reads two vertices
        pair = draw(st.permutations(flat))[:2]
        found.append(("add_layer", "joint", output("mse", 2), *pair))
        outputs.insert(draw(st.integers(0, len(outputs))), "joint")
    if draw(st.booleans()):  # layers behind an answer, which need not answer any more
        answer = draw(st.sampled_from([name for name in kept if name in net.outputs]))
        found.append(("add_layer", "hidden", tl.Dense(4, activation="tanh", dropout=0.2), answer))
        found.append(("add_vertex", "norm", tl.BatchNorm(), "hidden"))
        found.append(("add_layer", "last", output("nll", 2), "norm"))
        outputs.append("last")
        if draw(st.booleans()):
            outputs.remove(answer)
    return found, outputs


def is_replaceable(module: nn.Module) -> bool:
    """Say whether a description of the same width can stand for a module."""
    kinds = (*WEIGHT_LAYERS, *NORMS, *ACTIVATIONS.values(), nn.Dropout, nn.MaxPool2d)
    return isinstance(module, kinds) and getattr(module, "groups", 1) == 1


def replacement(draw: Any, net: tl.Network, name: str) -> Any:
    module = net.vertices[name].module
    options = {"activation": draw(st.sampled_from([None, "relu"])), "updater": draw(st.sampled_from(UPDATERS))}
    if hasattr(module, "loss"):
        return tl.Output(draw(st.integers(2, 4)), loss=module.loss)
    if isinstance(module, nn.Linear):
        return tl.Dense(module.out_features, dropout=0.2, **options)
    if isinstance(module, nn.Conv2d):
        return tl.Conv2d(module.out_channels, 3, padding=1, **options)
    if isinstance(module, NORMS):
        return tl.BatchNorm()
    if isinstance(module, nn.MaxPool2d):
        return tl.Pool2d("average")
    return tl.Dropout(0.1) if isinstance(module, nn.Dropout) else tl.Activation("tanh")


def added(name: str, what: Any, *inputs: str) -> Edit:
    is_layer = isinstance(what, (tl.Dense, tl.Conv2d))
    return ("add_layer" if is_layer else "add_vertex", name, what, *inputs)


def reached(net: tl.Network, name: str) -> set[str] | None:
    """Vertices whose weights a new width of this one makes anew, itself included; None where it must not change."""
    module = net.vertices[name].module
    if not isinstance(module, WEIGHT_LAYERS) or is_depthwise(module):
        return None
    found, todo = {name}, [name]
    while todo:
        for reader in net.consumers(todo.pop()):
            module = net.vertices[reader].module
            weightless = not list(module.parameters())
            passes = weightless or isinstance(module, NORMS) or is_depthwise(module)
            if len(net.vertices[reader].inputs) > 1 or not (passes or isinstance(module, WEIGHT_LAYERS)):
                return None
            found |= set() if weightless else {reader}
            todo += [reader] if passes else []
    return found


def is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels == module.out_channels > 1


def configurations() -> st.SearchStrategy[tl.FineTuneConfiguration]:
    """Fine-tune configurations; a seed is always there, so that a build can be repeated."""
    updaters = st.sampled_from([None, *UPDATERS])
    shares = st.sampled_from([None, 0.0, 0.01])
    return st.fixed_dictionaries(
        {"seed": st.integers(0, 9)},
        optional={
            "activation": st.sampled_from([None, "tanh", "relu"]),
            "weight_init": st.sampled_from([None, "relu", "uniform", tl.Normal(0, 0.3)]),
            "bias_init": st.sampled_from([None, 0.1]),
            "dropout": st.sampled_from([None, 0.3]),
            "updater": updaters,
            "bias_updater": updaters,
            "updaters": st.sampled_from([None, {"*": tl.Sgd(0.01)}, {"v*": tl.Adam(0.02), "answer*": tl.Sgd(0.03)}]),
            **dict.fromkeys(("l1", "l2", "weight_decay", "l1_bias", "l2_bias", "weight_decay_bias"), shares),
            "weight_noise": st.sampled_from([None, tl.DropConnect(0.3)]),
            "gradient_normalization": st.sampled_from([None, *GRADIENT_NORMALIZATIONS]),
            "gradient_normalization_threshold": st.sampled_from([None, 0.5]),
            "constraints": st.sampled_from([None, tl.MaxNorm(1.0), [tl.NonNegative(), tl.UnitNorm()]]),
            "fixed_statistics": st.sampled_from([None, True]),
        },
    ).map(lambda options: tl.FineTuneConfiguration(**options))
