"""A network as a chain of segments, from one cut point to the next."""

from __future__ import annotations

from collections.abc import Sequence

from tlkit.builder import TransferLearning
from tlkit.graph.network import Network

__all__ = ["divide", "find_cuts"]


def find_cuts(net: Network) -> list[str]:
    """Return the cut points up to which a network can be frozen.

    A cut point is none where vertices before and behind it share weights.
    """
    found = []
    for name in net.cut_points:
        try:
            net.check_shared_weights(net.ancestors(name))
        except ValueError:
            continue
        found.append(name)
    return found


def divide(net: Network, points: Sequence[str]) -> list[Network]:
    """Divide a copy of a network at cut points: each segment reads what the one before it answers.

    Parameters
    ----------
    net : Network
        It stays as it is; the copy shares the memory of its weights.
    points : sequence of str
        Cut points, in the network's order.

    Returns
    -------
    list of Network
        One segment for each cut point, which ends there, and one that goes on to the outputs.
    """
    whole = TransferLearning(net).build(validate_output_layer=False)
    shapes, vertices = whole.output_shapes(), whole.vertices
    parts, done, before = [], frozenset(), dict(whole.input_shapes)
    for point in [*points, None]:
        within = whole.ancestors(point) if point else frozenset(vertices)
        chosen = {name: vertices[name] for name in vertices if name in within - done}
        preprocessing = None if done else whole.preprocessing
        parts.append(Network(chosen, before, [point] if point else whole.outputs, preprocessing=preprocessing))
        if point:
            done, before = within, {point: shapes[point]}
    return parts
