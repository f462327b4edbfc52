"""Exercises of notebook 05: edit the last layer."""

from __future__ import annotations

from typing import Any

from tlkit.course.checks import (
    NotYet,
    as_network,
    as_number,
    boundary_of,
    check_output,
    exercise,
    one_block_less,
    trainable,
    weights_of,
)
from tlkit.errors import quoted
from tlkit.graph.network import Network

__all__: list[str] = []


@exercise("05.1", "seven kinds of flowers instead of five: how many parameters does the new last layer train?")
def seven_classes(answer: Any, net: Network) -> str:
    number = as_number(answer)
    width = as_network(net).vertices[net.landmarks.head].module.in_features
    right = 7 * (width + 1)
    if number == right:
        return f"7 classes, each with {width:,} weights and one bias, are 7 × {width + 1:,} = {right:,} parameters."
    if number == 7 * width:
        missing = f"{number:,} are the weights alone. Each class has a bias as well."
    elif number == 5 * (width + 1):
        missing = f"{number:,} is right for five classes. The question is about seven."
    elif number in (width, width + 1):
        missing = f"{number:,} is one class's share. There are seven classes."
    elif number == trainable(net) or number > 100 * right:
        missing = "that counts more than the last layer. net.summary() shows each layer in a row."
    else:
        missing = f"{number:,} is not it. A class has a weight for each of the {width:,} features, and a bias."
    raise NotYet(missing)


@exercise(
    "05.2", "freeze one block less: train the last block before the bottleneck along with a new head for 5 classes."
)
def one_block_less_frozen(answer: Any) -> str:
    net = as_network(answer)
    check_output(net, 5)
    found, wanted = boundary_of(net), one_block_less(net)
    order = list(net.vertices)
    if found == wanted:
        behind = [name for name in order if weights_of(net, name) and name not in net.frozen]
        return f"behind '{wanted}', {quoted(behind)} are trained: {trainable(net):,} parameters."
    if found not in order:
        missing = f"the boundary is the input '{found}'. Freeze a vertex: .set_feature_extractor(name)."
    elif order.index(found) > order.index(wanted):
        frozen = [name for name in order[order.index(wanted) + 1 :] if weights_of(net, name) and name in net.frozen]
        still = f"{quoted(frozen)} {'are' if len(frozen) > 1 else 'is'} still frozen" if frozen else "nothing changed"
        missing = f"with the boundary '{found}', {still}. Name an earlier vertex, the last one of the block before."
    else:
        missing = f"with the boundary '{found}', more than the last block is trained. Name a later vertex."
    raise NotYet(missing)
