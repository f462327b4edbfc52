"""Exercises of notebook 00: DL4J's Transfer Learning API."""

from __future__ import annotations

import math
from typing import Any

from tlkit.course.checks import NotYet, as_network, as_number, boundary_of, exercise, kind_of, trainable
from tlkit.errors import near_misses, quoted
from tlkit.graph.network import Network

__all__: list[str] = []


@exercise("00.1", "vgg16 frozen up to block5_pool, its old head in place: how many parameters are trainable?")
def behind_the_bottleneck(answer: Any, vgg16: Network) -> str:
    number = as_number(answer)
    frozen = vgg16.ancestors(vgg16.landmarks.bottleneck)
    sizes = {name: sum(p.numel() for p in vertex.module.parameters()) for name, vertex in vgg16.vertices.items()}
    behind = {name: size for name, size in sizes.items() if size and name not in frozen}
    right, total = sum(behind.values()), sum(sizes.values())
    if number == right:
        return f"{quoted(behind)} lie behind the boundary, with {right:,} of {total:,} parameters."
    if number == total - right:
        missing = f"{number:,} are the frozen ones. The question is about the rest."
    elif number == total:
        missing = f"{number:,} are all parameters of the network. Leave out the frozen ones."
    elif number in behind.values() or number in {right - size for size in behind.values()}:
        missing = f"{number:,} is a part of it. {len(behind)} vertices behind the boundary have parameters."
    else:
        missing = f"{number:,} is not it. Add up the parameters of the vertices below block5_pool in the summary."
    raise NotYet(missing)


@exercise("00.2", "at which cut point of vgg16 does a boundary take the fewest bytes for an image?")
def smallest_boundary(answer: Any, vgg16: Network) -> str:
    if not isinstance(answer, str):
        missing = f"the answer is the name of a vertex such as 'block1_conv1', and this is {kind_of(answer)}."
        raise NotYet(missing)
    shapes = vgg16.output_shapes()
    sizes = {name: math.prod(shapes[name]) for name in vgg16.cut_points}
    least = [name for name, size in sizes.items() if size == min(sizes.values())]
    if answer in least:
        return f"{quoted(least)} answer with {sizes[answer]:,} numbers, {4 * sizes[answer]:,} bytes an image."
    if answer in vgg16.outputs:
        missing = f"'{answer}' is an output: with all before it and itself frozen, nothing would be left to train."
    elif answer not in sizes:
        missing = f"vgg16 has no cut point '{answer}'.{near_misses(answer, sizes)}"
    else:
        missing = f"'{answer}' answers with {sizes[answer]:,} numbers, and there is a vertex with fewer."
    raise NotYet(missing)


@exercise("00.3", "a network from vgg16 whose features have height and width, less than a tenth of it trainable.")
def spatial_and_light(answer: Any) -> str:
    net = as_network(answer)
    name = boundary_of(net)
    shape = net.output_shapes()[name]
    if name in net.inputs or name in net.outputs:
        missing = (
            f"the boundary '{name}' is the network's {'input' if name in net.inputs else 'output'}. Move it inside."
        )
        raise NotYet(missing)
    if len(shape) < 3 or shape[-1] < 2:
        missing = (
            f"the features at '{name}' are {shape[0]:,} numbers without height and width. Name an earlier boundary."
        )
        raise NotYet(missing)
    total = sum(parameter.numel() for parameter in net.parameters())
    share = trainable(net) / total
    if share >= 0.1:
        rest = {key: vertex for key, vertex in net.vertices.items() if key not in net.frozen}
        largest = max(rest, key=lambda key: sum(p.numel() for p in rest[key].module.parameters()))
        missing = f"{share:.1%} of {total:,} parameters are trainable, most of them in '{largest}'. Make it narrower."
        raise NotYet(missing)
    return (
        f"'{name}' gives {' × '.join(map(str, shape))} numbers, and {share:.1%} of {total:,} parameters are trainable."
    )
