"""Trace a torch module into a graph of calls, none of which changes what another one reads."""

from __future__ import annotations

import contextlib
import functools
import inspect
import linecache
import operator
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.overrides import handle_torch_function, has_torch_function

from tlkit.errors import near_misses, quoted
from tlkit.modules import NORMS
from tlkit.shapes import on_meta

__all__ = ["GRANULARITIES", "Trace", "trace"]

GRANULARITIES = ("block", "layer")
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _set_item(x: Tensor, place: Any, value: Any) -> Tensor:
    x[place] = value
    return x


def _with_item(x: Tensor, place: Any, value: Any) -> Tensor:
    """Return a copy with an item set; torch.fx records it as one call, since a proxy takes no items."""
    if has_torch_function((x, place, value)):
        return handle_torch_function(_with_item, (x, place, value), x, place, value)
    return _set_item(x.clone(), place, value)


# operators that change their first operand -> the ones that don't
_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    _set_item: _with_item,
}
# functions that make a tensor of the sizes they are given; their arguments are parsed before torch.fx sees them
_FACTORIES = ("empty", "ones", "rand", "randn", "zeros")
_SIZES = {"size", "dim", "numel", getattr}  # what may be asked of a tensor after it was changed


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
    for part in module.modules():
        if isinstance(part, nn.modules.dropout._DropoutNd):
            part.inplace = False
    tracer = _Tracer(granularity, example_inputs, leaves)
    graph = _traced(tracer, module, example_inputs)
    _check_answers(graph, tracer)
    overwritten = _redirect(graph, tracer)
    _copy_constants(graph, tracer)
    for node in graph.nodes:
        if node.op == "call_module" and isinstance(module.get_submodule(node.target), nn.Identity):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
    found = Trace(graph, set(tracer.tensors), overwritten)
    vars(tracer).clear()  # torch.fx keeps it in circles, and with it the weights of networks that nobody needs anymore
    return found


def _traced(tracer: _Tracer, module: nn.Module, example_inputs: Sequence[Tensor]) -> fx.Graph:
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
        with _sizes_in_a_tuple():
            return tracer.trace(module, concrete_args=left_out or None)
    except Exception as error:
        place, owner = _failed_at(error)
        (cause, *_) = str(error).split(". ")
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


def _check_answers(graph: fx.Graph, tracer: _Tracer) -> None:
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
        on_meta(module, *(torch.empty_like(value, device="meta") for value in example_inputs))
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


# -- where in the user's code ---------------------------------------------------------------------------------------

_MACHINERY = (*(f"{Path(file).parent}{os.sep}" for file in (torch.__file__, __file__)), "<eval_with_key>")
_INSTALLED = tuple({sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")})


def _failed_at(error: BaseException) -> tuple[str, type[nn.Module] | None]:
    """Return the line that an error comes from, as words, and the class of the module that it stands in."""
    place, owner = "", None
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        holder = frame.f_locals.get("self")
        holder = type(holder) if isinstance(holder, nn.Module) else None
        if _is_machinery(code):
            continue
        owner = holder or owner
        if holder or not place or not code.co_filename.startswith(_INSTALLED):
            place = _place(code, line, holder)
    return place, owner


def _line_here() -> str:
    """Return the user's line that runs now; no frame is kept, since frames keep the weights in memory."""
    frame = sys._getframe(1)
    while frame is not None and _is_machinery(frame.f_code):
        frame = frame.f_back
    return "" if frame is None else _place(frame.f_code, frame.f_lineno)


def _is_machinery(code: CodeType) -> bool:
    return code.co_filename.startswith(_MACHINERY)


def _place(code: CodeType, line: int, owner: type[nn.Module] | None = None) -> str:
    path = Path(code.co_filename)
    file = "the notebook's cell" if path.parent.name.startswith("ipykernel_") else path.name
    name = f"{owner.__name__}.{code.co_name}" if owner else code.co_name
    text = linecache.getline(code.co_filename, line).strip()
    return f"{file}, line {line}, in {name}{text and f': `{text}`'}"


# -- tracing --------------------------------------------------------------------------------------------------------


class _Proxy(fx.Proxy):
    """Stands for a tensor or a size; knows sizes, and tells ``x += y``, which changes x, from ``x = x + y``."""

    def __int__(self) -> int:
        return int(self.tracer.known(self))

    def __index__(self) -> int:
        return operator.index(self.tracer.known(self))

    def __getattr__(self, k: str) -> fx.Proxy:
        return _Attribute(self, k)

    def __iter__(self) -> Iterator[fx.Proxy]:
        value = self.tracer.values[self.node]
        if isinstance(value, (tuple, list)):  # torch's own looks at frames, which then keep the weights in memory
            return (self[place] for place in range(len(value)))
        return super().__iter__()

    def __len__(self) -> int:
        return self.tracer.known(self, len)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", _set_item, (self, place, value), {})

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._record(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._record(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._record(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._record(operator.itruediv, other)

    def _record(self, operation: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", operation, (self, other), {})


class _Attribute(fx.proxy.Attribute, _Proxy):
    """Stands for a part of a proxy, such as its shape, or for a method of it."""


@contextlib.contextmanager
def _sizes_in_a_tuple() -> Iterator[None]:
    """Let ``torch.zeros(n, m)`` be recorded for sizes of an input: torch.fx records ``torch.zeros((n, m))`` only."""
    with torch.device("meta"):
        torch.empty(0)  # torch lists its functions the first time, which must not happen while they are replaced
    originals = {name: getattr(torch, name) for name in _FACTORIES}

    def with_tuple(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def make(*args: Any, **kwargs: Any) -> Any:
            several = len(args) > 1 and isinstance(args[0], fx.Proxy)
            return original(args, **kwargs) if several else original(*args, **kwargs)

        return make

    try:
        for name, original in originals.items():
            setattr(torch, name, with_tuple(original))
        yield
    finally:
        for name, original in originals.items():
            setattr(torch, name, original)


class _Tracer(fx.Tracer):
    """Opens containers and plain wrappers; keeps torch's layers and, at block granularity, blocks whole.

    It runs every call on shapes as it is traced, so that control flow may depend on them, and records which nodes are
    tensors and which calls change what they read.
    """

    def __init__(self, granularity: str, example_inputs: Sequence[Tensor], leaves: tuple[type[nn.Module], ...]) -> None:
        super().__init__()
        self.granularity = granularity
        self.leaves = leaves
        self.examples = [torch.empty_like(value, device="meta") for value in example_inputs]
        self.values: dict[fx.Node, Any] = {}
        self.larger_values: dict[fx.Node, Any] = {}  # of a batch with one example more
        self.follows: set[fx.Node] = set()  # the inputs and what depends on them
        self.tensors: dict[fx.Node, int] = {}  # node -> version of its tensor, which in-place operations count up
        self.changes: dict[fx.Node, list[fx.Node]] = {}
        self.constants: dict[fx.Node, list[fx.Node]] = {}  # the same for tensors that don't come from the inputs
        self.lines: dict[fx.Node, str] = {}  # where in the user's code those changes are made
        self.running = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self.leaves):
            return True
        if isinstance(m, CONTAINERS):
            return False
        if type(m).__module__.startswith("torch.nn") or isinstance(m, NORMS) or not any(m.children()):
            return True
        return self.granularity == "block" and _is_block(m)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        if node.op != "output":
            self.values[node] = self._run(node, self.values, self.examples)
            self._note(node)
        return node

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.known(obj))

    def known(self, proxy: fx.Proxy, ask: Callable[[Any], Any] | None = None) -> Any:
        """Return what a proxy stands for when that depends on shapes alone, and not on the number of examples.

        With `ask`, what that function says of it, such as its length.
        """
        value = self.values[proxy.node]
        if ask or not isinstance(value, Tensor):
            more = [torch.cat([example, example[:1]]) for example in self.examples]
            for node in self.graph.nodes:
                if node not in self.larger_values:
                    self.larger_values[node] = self._run(node, self.larger_values, more)
            larger = self.larger_values[proxy.node]
            if ask:
                value, larger = ask(value), ask(larger)
            if larger == value:
                return value
        return super().to_bool(proxy)  # raises

    def _run(self, node: fx.Node, values: dict[fx.Node, Any], examples: list[Tensor]) -> Any:
        args = fx.node.map_arg(node.args, values.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, values.__getitem__)
        self.running = True  # not traced
        try:
            with torch.no_grad(), torch.device("meta"):
                if node.op == "placeholder":
                    place = sum(other.op == "placeholder" for other in values)
                    return examples[place] if place < len(examples) else args[0]
                if node.op == "get_attr":
                    value = operator.attrgetter(node.target)(self.root)
                    return torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value
                if node.op == "call_module":
                    return on_meta(self.root.get_submodule(node.target), *args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], node.target)(*args[1:], **kwargs)
                return node.target(*args, **kwargs)
        finally:
            self.running = False

    def _note(self, node: fx.Node) -> None:
        constants = [other for other in node.all_input_nodes if other.op == "get_attr"]
        if any(getattr(self.values[other], "_version", 0) for other in constants):
            self.lines[node] = _line_here()
            self.constants[node] = constants
        if any(other in self.tensors and self._has_changed(other) for other in node.all_input_nodes):
            self.lines[node] = _line_here()
            self.changes[node] = [other for other in self.tensors if self._has_changed(other)]  # views of it included
            self.tensors.update({other: self.values[other]._version for other in self.changes[node]})
        if node.op == "placeholder" or not self.follows.isdisjoint(node.all_input_nodes):
            self.follows.add(node)
            if isinstance(self.values[node], Tensor):
                self.tensors[node] = self.values[node]._version

    def _has_changed(self, node: fx.Node) -> bool:
        return self.values[node]._version != self.tensors[node]


def _is_block(module: nn.Module) -> bool:
    """Say whether a module holds two weight layers or more and is not itself a stack of such blocks."""
    if _count_weights(module) < 2:
        return False
    for part in module.modules():
        if isinstance(part, CONTAINERS):
            kinds = [type(child) for child in part.children() if _is_custom(child) and _count_weights(child) > 1]
            if len(kinds) > len(set(kinds)):
                return False
    return True


def _is_custom(module: nn.Module) -> bool:
    return not isinstance(module, CONTAINERS) and not type(module).__module__.startswith("torch.nn")


def _count_weights(module: nn.Module) -> int:
    return sum(parameter.ndim > 1 for parameter in module.parameters())


# -- in-place operations --------------------------------------------------------------------------------------------


def _redirect(graph: fx.Graph, tracer: _Tracer) -> dict[fx.Node, list[fx.Node]]:
    """Let whoever reads a tensor after it was changed in place read the result of that change instead."""
    position = {node: place for place, node in enumerate(graph.nodes)}
    now: dict[fx.Node, fx.Node] = {}  # a node whose tensor was changed -> the node that changed it
    overwritten: dict[fx.Node, list[fx.Node]] = {}
    for node, changed in tracer.changes.items():
        for first in changed:
            before = now.get(first, first)
            later = [user for user in before.users if position[user] > position[node] and user.target not in _SIZES]
            if tracer.values[node] is tracer.values[first]:
                before.replace_all_uses_with(node, delete_user_cb=later.__contains__)
                now[first] = node
            elif later and not _is_assigned(node, before, later[0]):
                what = f"its input in place, and {_name(later[0])} reads it afterwards"
                raise _untold(node, tracer, what, "Change a copy instead: x = x.clone().")
            if before in node.all_input_nodes and not _set_out_of_place(node, tracer.root):
                overwritten.setdefault(node, []).append(before)
    return overwritten


def _copy_constants(graph: fx.Graph, tracer: _Tracer) -> None:
    """Let a change of a tensor that doesn't come from the inputs work on a copy, anew for each batch."""
    for node, constants in tracer.constants.items():
        if not node.users:  # whoever reads it afterwards read the tensor itself, which tracing left as it was
            what = "in place a tensor that does not come from the inputs"
            raise _untold(node, tracer, what, "Make that tensor from an input: x.new_zeros(n).")
        for constant in constants:
            with graph.inserting_before(node):
                node.replace_input_with(constant, graph.call_method("clone", (constant,)))


def _untold(node: fx.Node, tracer: _Tracer, what: str, remedy: str) -> ValueError:
    place = tracer.lines[node] and f" ({tracer.lines[node]})"
    return ValueError(
        f"{_name(node)} changes {what}{place}, which a graph cannot tell. {remedy} Or make the class of the module "
        "that does so a leaf: tl.Network.from_module(..., leaves=[ItsClass])."
    )


def _is_assigned(node: fx.Node, whole: fx.Node, reader: fx.Node) -> bool:
    """Say whether a changed part is put back at once, as ``x[0] *= 2`` does."""
    return node.target in _OUT_OF_PLACE and reader.target is _set_item and reader.args[::2] == (whole, node)


def _name(node: fx.Node) -> str:
    return node.target if isinstance(node.target, str) else node.target.__name__.strip("_")


def _set_out_of_place(node: fx.Node, module: nn.Module) -> bool:
    """Switch the in-place form of a call off, where it has another one."""
    if node.op == "call_function" and node.target in _OUT_OF_PLACE:
        node.target = _OUT_OF_PLACE[node.target]
        return True
    part = module.get_submodule(node.target) if node.op == "call_module" else None
    if hasattr(part, "inplace") and not any(part.children()):
        part.inplace = False
        return True
    return False
