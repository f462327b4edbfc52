"""Exercises of notebook 03: import a zoo model."""

from __future__ import annotations

import math
from typing import Any

from tlkit.course.checks import NotYet, as_number, exercise, kind_of
from tlkit.graph.network import Network

__all__: list[str] = []


@exercise("03.1", "(classes, daisies): how many classes the network knows, how many are called daisy.")
def known_classes(answer: Any, net: Network) -> str:
    classes, daisies = len(net.classes), sum("daisy" in name for name in net.classes)
    try:
        found = tuple(as_number(number) for number in answer)
    except TypeError:
        missing = "the answer is a pair of whole numbers, such as (10, 2)."
        raise NotYet(missing) from None
    if found == (classes, daisies):
        return f"{classes:,} classes, and {daisies} of them is a daisy."
    if found[:1] != (classes,):
        missing = f"the network answers with another number of classes than {found[0]:,}. See len(net.classes)."
    else:
        missing = "the number of classes is right. Count the names in net.classes that hold the word daisy."
    raise NotYet(missing)


@exercise("03.2", "the boundary of resnet18 that leaves only its last stage, layer4, and the head trainable.")
def before_the_last_stage(answer: Any) -> str:
    name = str(answer).replace(".", "_")
    if name == "layer3_1":
        return "layer3_1 is the last vertex before layer4; everything that feeds it is frozen with it."
    if name.startswith("layer4"):
        missing = f"'{answer}' belongs to layer4, and a boundary is frozen itself. Name the vertex in front of it."
    elif name in ("conv1", "maxpool", "layer1_0", "layer1_1", "layer2_0", "layer2_1", "layer3_0"):
        missing = f"behind '{answer}' more than layer4 is trained. Name a later vertex."
    else:
        missing = f"resnet18 has no vertex '{answer}' before layer4. list(net.vertices) has all names."
    raise NotYet(missing)


@exercise("03.3", "a function that takes any network and returns the bytes of an image at its bottleneck.")
def bytes_at_the_bottleneck(answer: Any, net: Network, blocks: Network) -> str:
    if not callable(answer) or isinstance(answer, Network):
        missing = f"the answer is a function that takes a network, and this is {kind_of(answer)}."
        raise NotYet(missing)
    sizes = []
    for network in (net, blocks):
        place = network.landmarks.bottleneck
        shape = network.output_shapes()[place]
        found, numbers = as_number(answer(network)), math.prod(shape)
        if found == numbers:
            missing = f"{found:,} are the numbers at '{place}'. Each of them takes four bytes."
        elif sizes and found == sizes[0]:
            missing = f"it returns {found:,} for each network. Ask the network that it is given."
        elif found != 4 * numbers:
            missing = f"it returns {found:,} for the network whose bottleneck '{place}' answers with {shape}."
        else:
            sizes.append(found)
            continue
        raise NotYet(missing)
    return f"{sizes[0]:,} bytes for the first network and {sizes[1]:,} for the second."
