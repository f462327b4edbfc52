"""Exercises of notebook 03: import a zoo model."""

from __future__ import annotations

from typing import Any

from tlkit.checks import NotYet, as_number, exercise
from tlkit.graph import Network

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
