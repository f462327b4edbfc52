"""Trace a torch module into a graph of calls, none of which changes what another one reads."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from tlkit.errors import near_misses, quoted
from tlkit.graph.code_places import find_failure
from tlkit.graph.fx_tracer import OUT_OF_PLACE, Tracer, pack_sizes, set_item
from tlkit.graph.shapes import run_on_meta

__all__ = ["GRANULARITIES", "Trace", "trace"]

GRANULARITIES = ("block", "layer")
SIZES = {"size", "dim", "numel", getattr}  # may be asked of a tensor after it was changed: the answer is the same


class Trace(NamedTuple):
    """What `trace` found.

    Attributes
    ----------
    graph : fx.Graph
        The calls in order.
    tensors : set of fx.Node
        The nodes that are tensors and depend on the inputs; weights, and what is computed from them alone, don't.
    overwritten : dict of fx.Node to list of fx.Node
        For each call that changes tensors in place, the nodes whose tensors must be copied for it.
    """

    graph: fx.Graph
    tensors: set[fx.Node]
    overwritten: dict[fx.Node, list[fx.Node]]


def trace(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    granularity: str,
    leaves: tuple[type[nn.Module], ...] = (),
) -> Trace:
    """Trace a module in evaluation mode, on shapes alone, and take its in-place operations apart.

    Activations and dropout stop working in place where a vertex begins, since the tensor that they would overwrite
    is the one that other vertices, and the features of a frozen part, are. Parts of the classes `leaves` stay whole.

    Raises
    ------
    ValueError
        When the module cannot be traced or cannot run on the example inputs; the message names the line.
    """
    if granularity not in GRANULARITIES:
        msg = f"granularity is 'block' or 'layer', got {granularity!r}.{near_misses(granularity, GRANULARITIES)}"
        raise ValueError(msg)
    module.eval()
    # switched off before tracing: at the start of a vertex it would overwrite what other vertices, and features, are
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.inplace = False
    tracer = Tracer(granularity, example_inputs, leaves)
    graph = _traced(tracer, module, example_inputs)
    _check_answers(graph, tracer)
    overwritten = _redirect(graph, tracer)
    _copy_constants(graph, tracer)
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(module.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    found = Trace(graph, set(tracer.tensors), overwritten)  # nodes only: no proxy, which would keep the tracer
    vars(tracer).clear()  # torch.fx keeps it in circles, and with it the weights of networks that nobody needs anymore
    return found


def _traced(tracer: Tracer, module: nn.Module, example_inputs: Sequence[Tensor]) -> fx.Graph:
    kind = type(module).__name__
    parameters = list(inspect.signature(module.forward).parameters.values())
    required = [p for p in parameters if p.default is p.empty and p.kind is p.POSITIONAL_OR_KEYWORD]
    several = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    if not max(1, len(required)) <= len(example_inputs) <= (len(example_inputs) if several else len(parameters)):
        msg = (
            f"{kind} reads {quoted(p.name for p in parameters)}, and example_inputs holds {len(example_inputs)} "
            "batches. Give one batch for each input."
        )
        raise ValueError(msg)
    # an optional argument that is not given keeps its default; traced, it would look like a given one
    left_out = {p.name: p.default for p in parameters[len(example_inputs) :] if p.default is not p.empty}
    try:
        with pack_sizes():  # replaces functions of torch, so for no longer than this
            return tracer.trace(module, concrete_args=left_out or None)
    except Exception as error:  # the user's code runs in there, and may raise anything
        place, owner = find_failure(error)
        (cause, *_) = str(error).split(". ")
        # torch.fx names only some of the ways in which a proxy is no tensor; if the module runs untraced, it was that
        if isinstance(error, fx.proxy.TraceError) or _runs(module, example_inputs):
            msg = (
                f"{kind} cannot be traced{place and f' beyond {place}'} ({cause}). One graph serves all examples: it "
                f"knows shapes, but no values, and not how many examples there are. {_way_out(module, owner)}"
            )
        else:
            sizes = " and ".join(str(tuple(value.shape)) for value in example_inputs)
            msg = (
                f"{kind} cannot run on an input of shape {sizes}{place and f', see {place}'} ({cause}). If it takes "
                "other inputs, give example_inputs, one batch for each."
            )
        raise ValueError(msg) from error


def _check_answers(graph: fx.Graph, tracer: Tracer) -> None:
    answers = graph.output_node().all_input_nodes
    if not any(node in tracer.tensors for node in answers):
        found = quoted(dict.fromkeys(type(tracer.values[node]).__name__ for node in answers)) or "nothing"
        msg = (
            f"{type(tracer.root).__name__} answers with {found}, and a network answers with tensors that follow from "
            "its inputs. Return those in forward; of a tuple, its parts one by one: return y[0], y[1]."
        )
        raise ValueError(msg)


def _runs(module: nn.Module, example_inputs: Sequence[Tensor]) -> bool:
    """Say whether a module runs on the inputs untraced: then they are not what is wrong."""
    try:
        run_on_meta(module, *(torch.empty_like(value, device="meta") for value in example_inputs))
    except Exception:
        return False
    return True


def _way_out(module: nn.Module, owner: type[nn.Module] | None) -> str:
    if owner is not None and any(isinstance(part, owner) for part in module.modules() if part is not module):
        return (
            f"Make {owner.__name__} a leaf, one vertex whose steps may depend on anything: "
            f"tl.Network.from_module(..., leaves=[{owner.__name__}])."
        )
    return (
        "Move that step into a module of its own and make its class a leaf, one vertex whose steps may depend on "
        "anything: tl.Network.from_module(..., leaves=[ItsClass]). Or build the network vertex by vertex with "
        "tl.Network."
    )


# -- in-place operations --------------------------------------------------------------------------------------------


def _redirect(graph: fx.Graph, tracer: Tracer) -> dict[fx.Node, list[fx.Node]]:
    """Let whoever reads a tensor after it was changed in place read the result of that change instead."""
    # the order of calls is lost in a network, whose vertices know their inputs only: what was changed has to become
    # an input of whoever reads it later
    position = {node: place for place, node in enumerate(graph.nodes)}
    now: dict[fx.Node, fx.Node] = {}  # a node whose tensor was changed -> the node that changed it
    overwritten: dict[fx.Node, list[fx.Node]] = {}
    for node, changed in tracer.changes.items():
        for first in changed:
            before = now.get(first, first)
            later = [user for user in before.users if position[user] > position[node] and user.target not in SIZES]
            if tracer.values[node] is tracer.values[first]:  # the call answers with the tensor that it changed
                before.replace_all_uses_with(node, delete_user_cb=later.__contains__)
                now[first] = node
            # it changed another tensor than it answers with, a view's base for example: no node stands for the change
            elif later and not _is_assigned(node, before, later[0]):
                what = f"its input in place, and {_name(later[0])} reads it afterwards"
                raise _untold(node, tracer, what, "Change a copy instead: x = x.clone().")
            # a module with parts may need its in-place steps inside, and a call may have no other form: copy for it
            if before in node.all_input_nodes and not _set_out_of_place(node, tracer.root):
                overwritten.setdefault(node, []).append(before)
    return overwritten


def _copy_constants(graph: fx.Graph, tracer: Tracer) -> None:
    """Let a change of a tensor that doesn't come from the inputs work on a copy, anew for each batch."""
    for node, constants in tracer.constants.items():
        if not node.users:  # whoever reads it afterwards read the tensor itself, which tracing left as it was
            what = "in place a tensor that does not come from the inputs"
            raise _untold(node, tracer, what, "Make that tensor from an input: x.new_zeros(n).")
        for constant in constants:
            with graph.inserting_before(node):
                node.replace_input_with(constant, graph.call_method("clone", (constant,)))


def _untold(node: fx.Node, tracer: Tracer, what: str, remedy: str) -> ValueError:
    place = tracer.lines[node] and f" ({tracer.lines[node]})"
    return ValueError(
        f"{_name(node)} changes {what}{place}, which a graph cannot tell. {remedy} Or make the class of the module "
        "that does so a leaf: tl.Network.from_module(..., leaves=[ItsClass])."
    )


def _is_assigned(node: fx.Node, whole: fx.Node, reader: fx.Node) -> bool:
    """Say whether a changed part is put back at once, as ``x[0] *= 2`` does."""
    return node.target in OUT_OF_PLACE and reader.target is set_item and reader.args[::2] == (whole, node)


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__.strip("_")


def _set_out_of_place(node: fx.Node, module: nn.Module) -> bool:
    """Switch the in-place form of a call off, where it has another one."""
    if node.op == "call_function" and node.target in OUT_OF_PLACE:
        node.target = OUT_OF_PLACE[node.target]
        return True
    part = module.get_submodule(node.target) if node.op == "call_module" else None
    if hasattr(part, "inplace") and not any(part.children()):  # a block's own flag may be none that torch defined
        part.inplace = False
        return True
    return False
