"""Exercises of notebook 06: attach at the bottleneck."""

from __future__ import annotations

from typing import Any

from tlkit.course.checks import (
    NotYet,
    as_network,
    as_number,
    boundary_of,
    changed_vertices,
    check_output,
    exercise,
    trainable,
    weights_of,
)
from tlkit.errors import quoted
from tlkit.graph.network import Network
from tlkit.layers.modules import OutputLayer, is_weight_layer

__all__: list[str] = []


@exercise("06.1", "a tl.Dense(1024) reads the bottleneck through tl.GlobalPool(): how many parameters has it?")
def dense_on_pooled(answer: Any, net: Network) -> str:
    number = as_number(answer)
    name = as_network(net).landmarks.bottleneck
    channels, height, width = net.output_shapes()[name]
    right = (channels + 1) * 1024
    flat = (channels * height * width + 1) * 1024
    if number == right:
        return (
            f"the pool leaves {channels:,} numbers of '{name}', so ({channels:,} + 1) × 1,024 = {right:,} parameters. "
            f"Behind tl.Flatten() they would be {flat:,}."
        )
    if number == channels * 1024:
        missing = f"{number:,} are the weights alone. Each of the 1,024 units has a bias as well."
    elif number in (flat, flat - 1024):
        missing = (
            f"that is the layer behind tl.Flatten(). tl.GlobalPool() leaves one number of each {height} × {width}."
        )
    elif number == channels + 1:
        missing = f"{number:,} is one unit's share. There are 1,024 units."
    else:
        missing = (
            f"{number:,} is not it. '{name}' has the shape {channels:,} × {height} × {width}; what does the mean over "
            "height and width leave of it?"
        )
    raise NotYet(missing)


@exercise(
    "06.2", "a head for 5 classes on the frozen bottleneck: a hidden layer or more, under 200,000 parameters to train."
)
def small_head(answer: Any) -> str:
    net = as_network(answer)
    check_output(net, 5)
    bottleneck = net.landmarks.bottleneck
    found = boundary_of(net)
    if bottleneck not in net.frozen:
        missing = (
            f"the bottleneck '{bottleneck}' is not frozen: the boundary is '{found}'. Freeze up to '{bottleneck}'."
        )
        raise NotYet(missing)
    behind = [name for name in net.vertices if name in net.frozen and name not in net.ancestors(bottleneck)]
    if any(weights_of(net, name) for name in behind):
        missing = f"more than the bottleneck is frozen: the boundary is '{found}'. Freeze up to '{bottleneck}' only."
        raise NotYet(missing)
    layers = [
        name for name, vertex in net.vertices.items() if name not in net.frozen and is_weight_layer(vertex.module)
    ]
    if len(layers) < 2:
        missing = f"'{layers[0]}' is the only layer that is trained. Put a hidden layer before it: tl.Dense(...)."
        raise NotYet(missing)
    count = trainable(net)
    if count >= 200_000:
        largest = max(layers, key=lambda name: weights_of(net, name))
        missing = (
            f"{count:,} parameters are trained, {weights_of(net, largest):,} of them in '{largest}'. Give it fewer "
            "units, or fewer inputs."
        )
        raise NotYet(missing)
    return f"{quoted(layers)} have {count:,} parameters to train."


@exercise("06.3", "give the trained network a second output, 'wild', with two classes on 'fc3', and lose nothing.")
def second_output(answer: Any, net: Network) -> str:
    two = as_network(answer)
    if "wild" not in two.vertices:
        missing = "this network has no vertex 'wild'. Add it: .add_layer('wild', tl.Output(n_out=2), 'fc3')."
        raise NotYet(missing)
    lost = [name for name in (*net.outputs, "wild") if name not in two.outputs]
    if lost:
        missing = (
            f"the network answers with {quoted(two.outputs)}, without {quoted(lost)}. set_outputs replaces the old "
            "list: name every output."
        )
        raise NotYet(missing)
    module, reads = two.vertices["wild"].module, two.vertices["wild"].inputs
    if not isinstance(module, OutputLayer) or module.out_features != 2:
        missing = "'wild' is asked for as an output with two classes: tl.Output(n_out=2)."
        raise NotYet(missing)
    if reads != ("fc3",):
        missing = f"'wild' reads {quoted(reads)}; it should read 'fc3'."
        raise NotYet(missing)
    changed = changed_vertices(net, two)
    if changed:
        missing = f"{quoted(changed[-3:])} lost what they learned. Start from the trained network, not the original."
        raise NotYet(missing)
    if two.frozen != net.frozen:
        missing = "other vertices are frozen than before. The marks of the trained network stay by themselves."
        raise NotYet(missing)
    return f"it answers with {quoted(two.outputs)}; only the {weights_of(two, 'wild'):,} parameters of 'wild' are new."
