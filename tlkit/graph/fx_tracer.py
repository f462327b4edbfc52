"""The tracer: records a module's calls with torch.fx, follows sizes, and notes which calls change what they read."""

from __future__ import annotations

import contextlib
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.overrides import handle_torch_function, has_torch_function

from tlkit.graph.code_places import find_current_line
from tlkit.graph.shapes import run_on_meta
from tlkit.layers.modules import NORMS

__all__ = ["OUT_OF_PLACE", "Tracer", "set_item", "pack_sizes"]

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


# the name of a function names the vertex that calls it: those of the next two stand in summaries and files
def set_item(x: Tensor, place: Any, value: Any) -> Tensor:
    x[place] = value
    return x


def with_item(x: Tensor, place: Any, value: Any) -> Tensor:
    """Return a copy with an item set; torch.fx records it as one call, since a proxy takes no items."""
    if has_torch_function((x, place, value)):
        return handle_torch_function(with_item, (x, place, value), x, place, value)
    return set_item(x.clone(), place, value)


# operators that change their first operand -> the ones that don't
OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
    set_item: with_item,
}
# functions that make a tensor of the sizes they are given; their arguments are parsed before torch.fx sees them
FACTORIES = ("empty", "ones", "rand", "randn", "zeros")


class Proxy(fx.Proxy):
    """Stands for a tensor or a size; knows sizes, and tells ``x += y``, which changes x, from ``x = x + y``.

    torch's own proxy refuses `int`, `len` and changes of items, and records ``x += y`` as an addition.
    """

    # int and range ask for a number of Python's own, so the size itself must be given; what depends on it afterwards
    # is no longer traced, which is right as long as it is the same for all batches (`evaluate` sees to that)
    def __int__(self) -> int:
        return int(self.tracer.evaluate(self))

    def __index__(self) -> int:
        return operator.index(self.tracer.evaluate(self))

    def __getattr__(self, k: str) -> fx.Proxy:
        return Attribute(self, k)  # torch.fx would make one of its own class, whose items and sizes nobody knows

    def __iter__(self) -> Iterator[fx.Proxy]:
        value = self.tracer.values[self.node]
        if isinstance(value, (tuple, list)):  # torch's own looks at frames, which then keep the weights in memory
            return (self[place] for place in range(len(value)))
        return super().__iter__()

    def __len__(self) -> int:
        return self.tracer.evaluate(self, len)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", set_item, (self, place, value), {})

    # without these four, Python falls back on `x = x + y`: a view of x, read afterwards, would miss the change
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


class Attribute(fx.proxy.Attribute, Proxy):
    """Stands for a part of a proxy, such as its shape, or for a method of it."""


@contextlib.contextmanager
def pack_sizes() -> Iterator[None]:
    """Let ``torch.zeros(n, m)`` be recorded for sizes of an input: torch.fx records ``torch.zeros((n, m))`` only."""
    with torch.device("meta"):
        torch.empty(0)  # torch lists its functions the first time, which must not happen while they are replaced
    originals = {name: getattr(torch, name) for name in FACTORIES}

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


class Tracer(fx.Tracer):
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
        # timm subclasses torch's normalizations outside of torch.nn, and they are layers all the same
        if type(m).__module__.startswith("torch.nn") or isinstance(m, NORMS) or not any(m.children()):
            return True
        return self.granularity == "block" and _is_block(m)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return Proxy(node, self)

    # while `_run` runs a module, torch.fx still has its hooks in nn.Module, and would record that run as well
    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        return forward(*args, **kwargs) if self.running else super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        return attr_val if self.running else super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        if node.op != "output":  # at once: the next line of the user's code may ask for a size
            self.values[node] = self._run(node, self.values, self.examples)
            self._note(node)
        return node

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.evaluate(obj))

    def evaluate(self, proxy: fx.Proxy, ask: Callable[[Any], Any] | None = None) -> Any:
        """Return what a proxy stands for when that depends on shapes alone, and not on the number of examples.

        With `ask`, what that function says of it, such as its length.
        """
        value = self.values[proxy.node]
        # a size of the batch looks like any other size; run with one example more, only what hangs on it differs
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
        self.running = True
        try:
            with torch.no_grad(), torch.device("meta"):
                if node.op == "placeholder":  # an argument without an example has its default
                    place = sum(other.op == "placeholder" for other in values)
                    return examples[place] if place < len(examples) else args[0]
                if node.op == "get_attr":  # a new tensor, so that its version counts from 0
                    value = operator.attrgetter(node.target)(self.root)
                    return torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value
                if node.op == "call_module":
                    return run_on_meta(self.root.get_submodule(node.target), *args, **kwargs)
                if node.op == "call_method":
                    return getattr(args[0], node.target)(*args[1:], **kwargs)
                return node.target(*args, **kwargs)
        finally:
            self.running = False

    def _note(self, node: fx.Node) -> None:
        # torch counts a tensor's version up with each change in place, also with one of a view that shares its memory,
        # and also on shapes alone: whose version has moved was changed by this call, whatever the call is named
        constants = [other for other in node.all_input_nodes if other.op == "get_attr"]
        if any(getattr(self.values[other], "_version", 0) for other in constants):
            self.lines[node] = find_current_line()
            self.constants[node] = constants
        if any(other in self.tensors and self._has_changed(other) for other in node.all_input_nodes):
            self.lines[node] = find_current_line()
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
    # several parts of one class in a container, such as the blocks of a stage, make it a stack, which is opened
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
