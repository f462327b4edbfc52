"""Exercises of notebook 07: fine-tune a saved model."""

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
from tlkit.layers.updaters import Adam, Sgd

__all__: list[str] = []


@exercise("07.1", "how many parameters learn again when the boundary moves from the bottleneck to `fine_tune_from`?")
def learning_again(answer: Any, net: Network) -> str:
    number = as_number(answer)
    before = as_network(net).landmarks.fine_tune_from
    names = [name for name in net.vertices if name in net.frozen - net.ancestors(before)]
    right, total = (sum(count(net, name) for name in names) for count in (weights_of, parameters_of))
    if number in (right, total):
        also = f" ({total - right:,} of them statistics of batch normalization)" if number == total > right else ""
        return f"{quoted(names)} have {number:,} parameters{also}."
    behind = sum(parameters_of(net, name) for name in net.vertices if name not in net.frozen)
    if number in (behind, behind + total, trainable(net), trainable(net) + right):
        missing = f"{number:,} counts what was trainable before. The question is about what was frozen."
    else:
        missing = f"{number:,} is not it. Subtract: how many are frozen in this network, how many in the tuned one?"
    raise NotYet(missing)


@exercise("07.2", "load the saved network with nothing frozen, then freeze it in place up to `fine_tune_from`.")
def frozen_in_place(answer: Any, net: Network) -> str:
    thawed = as_network(answer)
    boundary = net.landmarks.fine_tune_from
    wanted = net.ancestors(boundary)
    if changed_vertices(net, thawed):
        missing = "this is not the saved network: its weights differ. Load the file: tl.load(path, frozen=False)."
    elif not thawed.frozen:
        missing = f"nothing is frozen yet. Go on with .freeze('{boundary}')."
    elif thawed.frozen > wanted:
        still = [name for name in thawed.vertices if name in thawed.frozen - wanted]
        missing = f"{quoted(still[-3:])} are still frozen: freeze only adds marks. Load the file without its marks."
    elif thawed.frozen != wanted:
        missing = f"the boundary is '{boundary_of(thawed)}', and it should be '{boundary}'."
    else:
        return f"it is frozen up to '{boundary}', and {thawed.summary().trainable:,} parameters are trainable."
    raise NotYet(missing)


@exercise("07.3", "the last block learns with Sgd, a new output layer with Adam(lr=0.001), from the saved network.")
def two_updaters(answer: Any, net: Network) -> str:
    careful = as_network(answer)
    boundary = net.landmarks.fine_tune_from
    if careful.frozen != net.ancestors(boundary):
        missing = f"the boundary is '{boundary_of(careful)}'. To let the last block learn, it must be '{boundary}'."
        raise NotYet(missing)
    head = careful.outputs[0]
    check_output(careful, net.vertices[net.outputs[0]].module.out_features)
    if head in net.vertices and head not in changed_vertices(careful, net):
        missing = f"'{head}' is still the trained one. Remove it, keep its connections, and add a new tl.Output."
        raise NotYet(missing)
    updaters = {name: v.settings.updater for name, v in careful.vertices.items() if weights_of(careful, name)}
    own = updaters.pop(head)
    if own != Adam(lr=1e-3):
        missing = f"'{head}' would learn with {own}. Give the new layer its own: updater=tl.Adam(lr=1e-3)."
        raise NotYet(missing)
    others = {updater for name, updater in updaters.items() if name not in careful.frozen}
    if not all(isinstance(updater, Sgd) for updater in others):
        named = ", ".join(sorted(map(str, others)))
        missing = f"the rest would learn with {named}. Say it in the configuration: updater=tl.Sgd(lr=1e-5)."
        raise NotYet(missing)
    return f"'{head}' learns with {own}, the rest behind '{boundary}' with {others.pop()}."


def parameters_of(net: Network, name: str) -> int:
    """Return what the summary counts: the parameters of a vertex and its statistics."""
    module = net.vertices[name].module
    buffers = [value for key, value in module.named_buffers() if not key.endswith("num_batches_tracked")]
    return weights_of(net, name) + sum(value.numel() for value in buffers)
