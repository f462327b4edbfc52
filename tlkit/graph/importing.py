"""Import any traceable torch module as a `Network` of named vertices."""

from __future__ import annotations

import copy
import itertools
import operator
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from tlkit.errors import near_misses, quoted
from tlkit.graph.network import Network, Vertex
from tlkit.graph.tracing import Trace, trace
from tlkit.layers.activations import is_activation
from tlkit.layers.modules import NORMS, WEIGHT_LAYERS, Layer, as_layer

__all__ = ["from_module", "take_over"]

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


Leaves = Sequence[type[nn.Module]] | type[nn.Module]


def from_module(
    module: nn.Module,
    example_inputs: Sequence[Tensor] | Tensor | None = None,
    granularity: str = "block",
    leaves: Leaves = (),
) -> Network:
    """Import a copy of a torch module, traced with `torch.fx`; the original is left alone.

    Activations and batch normalization join the weight layer before them; dropout joins the layer behind it.
    No vertex overwrites a tensor that another one reads: what would work in place there works on a copy.
    Nothing is frozen: marks of ``requires_grad`` are not taken over (a warning says so).

    Parameters
    ----------
    module : nn.Module
        Any module that `torch.fx` can trace, traced in evaluation mode (auxiliary training heads are left out).
    example_inputs : sequence of Tensor, or Tensor for a single input, optional
        One batch for each input; one image batch of shape (1, 3, 224, 224) if left out. Only shapes are used.
    granularity : {"block", "layer"}
        Whether a block (residual, attention, inception, ...) is one vertex, or opened into its layers.
    leaves : sequence of classes, or one class
        Every part of these classes becomes one vertex, whatever it holds. It runs as it was written, so its steps may
        depend on a tensor's values, on the number of examples, or on whether it is training.

    Raises
    ------
    ValueError
        When the module cannot be traced, or does not answer one row an example; the message names the line or the
        vertex, the cause and the way out.
    TypeError
        When `module` is no module, or `leaves` holds something that is no class of modules.

    Examples
    --------
    >>> import torch
    >>> from tlkit.graph.importing import from_module
    >>> from torch import nn
    >>> net = from_module(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), [torch.zeros(1, 4)])
    >>> list(net.vertices)
    ['0', '2']

    A part whose steps depend on the values that reach it is a leaf:

    >>> class Gate(nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = nn.Linear(4, 4)
    ...
    ...     def forward(self, x):
    ...         return self.layer(x) if x.sum() > 0 else x
    >>> net = from_module(nn.Sequential(nn.Linear(4, 4), Gate()), [torch.zeros(1, 4)], leaves=[Gate])
    >>> list(net.vertices)
    ['0', '1']
    """
    if not isinstance(module, nn.Module):
        msg = f"A torch module is imported, got {module!r}. tl.zoo.load(name) makes a network from a name."
        raise TypeError(msg)
    held = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
    if held:
        msg = (
            f"{len(held)} parameters of {type(module).__name__} have requires_grad=False ('{held[0]}', ...). The "
            "network trains all of them until net.freeze(name) says otherwise."
        )
        warnings.warn(msg, stacklevel=2)
    net = take_over(copy.deepcopy(module), example_inputs, granularity, leaves=leaves)
    net.check_rows()
    return net


def take_over(
    module: nn.Module,
    example_inputs: Sequence[Tensor] | Tensor | None = None,
    granularity: str = "block",
    rename: Callable[[str], str] | None = None,
    leaves: Leaves = (),
) -> Network:
    """Import a module without copying it: the module itself is changed and should not be used afterwards."""
    if example_inputs is None:
        example_inputs = torch.empty(1, 3, 224, 224, device="meta")
    if isinstance(example_inputs, Tensor):
        example_inputs = [example_inputs]
    leaves = _checked_leaves(leaves, module)
    found = trace(module, example_inputs, granularity, leaves)
    # nodes are the calls that were traced; several of them make a vertex, and every vertex is one tensor by name
    net = _Vertices(found, module, rename or (lambda name: name), leaves).network(example_inputs)
    return net.unfreeze()


def _checked_leaves(leaves: Leaves, module: nn.Module) -> tuple[type[nn.Module], ...]:
    leaves = (leaves,) if isinstance(leaves, (type, str, nn.Module)) else tuple(leaves)
    parts = [type(part) for part in module.modules() if part is not module]
    for leaf in leaves:
        if not (isinstance(leaf, type) and issubclass(leaf, nn.Module)):
            kind = type(leaf).__name__
            got = f"a {kind} object. Give its class: leaves=[{kind}]" if isinstance(leaf, nn.Module) else repr(leaf)
            msg = f"leaves are classes of modules, such as leaves=[MyBlock], got {got}."
            raise TypeError(msg)
        if not any(issubclass(part, leaf) for part in parts):
            known = dict.fromkeys(part.__name__ for part in parts)
            msg = (
                f"{type(module).__name__} holds no {leaf.__name__}, so there is nothing to make a leaf of."
                f"{near_misses(leaf.__name__, known)} Its parts are of the classes {quoted(known) or '(none)'}."
            )
            raise ValueError(msg)
    return leaves


# -- from nodes to vertices -----------------------------------------------------------------------------------------


class _Vertices:
    """Walks the traced nodes and collects them into vertices."""

    def __init__(
        self, found: Trace, module: nn.Module, rename: Callable[[str], str], leaves: tuple[type[nn.Module], ...]
    ) -> None:
        self.graph, self.tensors, self.overwritten = found
        self.module = module
        self.rename = rename
        self.leaves = leaves
        self.vertices: dict[str, Vertex] = {}
        self.name_of: dict[fx.Node, str] = {}
        self.pending: dict[fx.Node, tuple[fx.Node, nn.Module]] = {}  # dropout that waits for the layer behind it
        # what is called twice is two vertices. Weights are shared by the two calls, as the module's own; a part without
        # weights, such as one ReLU for all layers, is copied for each, since it joins the layer before
        calls = [node.target for node in self.graph.nodes if node.op == "call_module"]
        self.repeated = {target for target in calls if calls.count(target) > 1}
        self.shared = {target for target in self.repeated if _has_state(module.get_submodule(target))}
        self.shared_done: set[int] = set()

    def network(self, example_inputs: Sequence[Tensor]) -> Network:
        inputs = {}
        for node, example in zip(
            (node for node in self.graph.nodes if node.op == "placeholder"), example_inputs, strict=False
        ):
            self.name_of[node] = node.name
            inputs[node.name] = tuple(example.shape[1:])
        for node in self.graph.nodes:
            if node in self.tensors and node.op != "placeholder":
                self.add(node)
        (answer,) = next(node for node in self.graph.nodes if node.op == "output").args
        # torchvision's segmentation networks answer with a mapping, others with a tuple: all of it is an output
        answers = answer.values() if isinstance(answer, Mapping) else [answer]
        answers = [node for value in answers for node in (value if isinstance(value, (tuple, list)) else [value])]
        outputs = [self.name_of[node] for node in answers if node in self.tensors]
        recipe = {"source": {"module": f"{type(self.module).__module__}.{type(self.module).__qualname__}"}}
        return Network(self._read_only(outputs), inputs, outputs, recipe={**recipe, "edits": []})

    def _read_only(self, outputs: Sequence[str]) -> dict[str, Vertex]:
        """Drop vertices that nothing reads, such as auxiliary heads traced in evaluation mode."""
        read, todo = set(outputs), [name for name in outputs if name in self.vertices]
        while todo:
            for other in self.vertices[todo.pop()].inputs:
                if other in self.vertices and other not in read:
                    read.add(other)
                    todo.append(other)
        return {name: vertex for name, vertex in self.vertices.items() if name in read}

    def add(self, node: fx.Node) -> None:
        part = self._part(node)
        before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if part is None:
            self._add_operation(node)
        elif isinstance(part, self.leaves):
            self._add_module(node, part, before)
        elif before is not None and self._joins(part, before):
            self.name_of[node] = self.name_of[before]
        elif isinstance(part, DROPOUTS) and self._feeds_layer(node):
            self.pending[node] = (before, part)
            self.name_of[node] = self.name_of[before]
        elif isinstance(part, WEIGHT_LAYERS) and node.target not in self.shared:
            self._add_layer(node, part, before)
        else:
            self._add_module(node, part, before)

    def _part(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node calls with one tensor, or its module form; None for other operations."""
        if node.op == "call_module":
            if len(node.args) != 1 or node.kwargs or node.args[0] not in self.tensors:
                return None
            part = self.module.get_submodule(node.target)
            # the mode of one call, such as dropout's, must not follow that of another
            return copy.deepcopy(part) if node.target in self.repeated - self.shared else part
        form = _MODULE_FORMS.get(node.target)
        return form(*node.args[1:], **node.kwargs) if form and node.args and node.args[0] in self.tensors else None

    def _joins(self, part: nn.Module, before: fx.Node) -> bool:
        """Attach an activation or batch normalization to the layer before it, a flatten to its pooling."""
        owner = self.vertices.get(self.name_of.get(before, ""))
        # a second reader of `before` reads the layer without its activation, which then needs a vertex of its own
        if owner is None or before in self.pending or len(before.users) > 1 or isinstance(owner.module, self.leaves):
            return False
        layer = owner.module
        # a pool of 1 x 1 and its flatten are one step to whoever reads features: vectors, under one name
        if isinstance(part, nn.Flatten) and isinstance(layer, POOLS):
            return self._rename_to_flatten(before, part)
        if not isinstance(layer, Layer) or layer.activation is not None:
            return False
        if is_activation(part):
            layer.activation = part
            return True
        # norm before activation is the order in which a layer applies them; the other way round it stays a vertex
        if isinstance(part, NORMS) and layer.norm is None and not _drops(part):
            layer.norm, layer.activation = _norm_and_activation(part)
            return True
        return False

    def _rename_to_flatten(self, before: fx.Node, part: nn.Module) -> bool:
        old = self.vertices.pop(self.name_of[before])
        self.name_of[before] = self._free_name("flatten")
        self.vertices[self.name_of[before]] = Vertex(nn.Sequential(old.module, part), old.inputs)
        return True

    def _feeds_layer(self, node: fx.Node) -> bool:
        # dropout in front of the layer that it feeds is frozen, and replaced, with it
        (user, *others) = [*node.users, None]
        if user is None or others != [None] or user.op != "call_module" or user.target in self.shared:
            return False
        part = self._part(user)
        return isinstance(part, WEIGHT_LAYERS) and not isinstance(part, self.leaves)

    def _add_layer(self, node: fx.Node, part: nn.Module, before: fx.Node) -> None:
        layer = as_layer(part)
        if before in self.pending:
            before, layer.dropout = self.pending[before]
        self._add_module(node, layer, before)

    def _add_module(self, node: fx.Node, part: nn.Module, before: fx.Node) -> None:
        if id(part) in self.shared_done:
            part = _SharedCall(part)  # the same object twice would be one entry of `modules()`, under one name
        elif node in self.overwritten:  # what cannot be switched off: the part works on a copy of what it reads
            part.register_forward_pre_hook(_copy_inputs)
        if node.target in self.shared:
            self.shared_done.add(id(part))
        self._insert(node, part, [before])

    def _insert(self, node: fx.Node, part: nn.Module, inputs: Sequence[fx.Node]) -> None:
        hint = node.target if node.op == "call_module" else _function_name(node)
        name = self._free_name(self.rename(hint))
        self.vertices[name] = Vertex(part, tuple(self.name_of[other] for other in inputs))
        self.name_of[node] = name

    def _free_name(self, hint: str) -> str:
        base = name = hint.replace(".", "_")
        count = 1
        # the name of an input is taken, too
        while name in self.vertices or name in self.name_of.values():
            count += 1
            name = f"{base}_{count}"
        return name

    def _add_operation(self, node: fx.Node) -> None:
        """Make one vertex of an operation, with the sizes, constants and weights that only it computes with."""
        inputs: list[fx.Node] = []
        graph = fx.Graph()  # a small one, from the vertices that it reads to this call
        copies: dict[fx.Node, fx.Node] = {}
        self._collect(node, inputs, top=True)
        for other in inputs:
            copies[other] = graph.placeholder(other.name)
        for other in self.overwritten.get(node, ()):
            copies[other] = graph.call_method("clone", (copies[other],))

        def copy_node(other: fx.Node) -> fx.Node:
            if other not in copies:
                copies[other] = graph.node_copy(other, copy_node)
            return copies[other]

        graph.output(copy_node(node))
        _follow_mode(graph)
        operation = fx.GraphModule(self.module, graph, class_name=_operation_name(node))
        graph.owning_module = None  # a circle that keeps its weights in memory
        self._insert(node, operation, inputs)

    def _collect(self, node: fx.Node, inputs: list[fx.Node], *, top: bool = False) -> None:
        # back to the first tensors that are vertices: sizes and constants on the way belong to this operation
        if not top and (node in self.tensors or node.op == "placeholder"):
            if node not in inputs:
                inputs.append(node)
            return
        for other in node.all_input_nodes:
            self._collect(other, inputs)


class _SharedCall(nn.Module):
    """A further call of a module that another vertex owns; the weights are the same objects."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.shared = module

    def forward(self, x: Tensor) -> Tensor:
        return self.shared(x)


def _has_state(module: nn.Module) -> bool:
    return any(True for _ in itertools.chain(module.parameters(), module.buffers()))


def _copy_inputs(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def _drops(norm: nn.Module) -> bool:
    """Say whether timm's batch normalization holds a dropout, which has no place in a layer."""
    return not isinstance(getattr(norm, "drop", None), (nn.Identity, type(None)))


def _norm_and_activation(norm: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Take apart timm's batch normalization with an activation inside."""
    activation = getattr(norm, "act", None)
    if activation is None:
        return norm, None
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    plain._parameters.update(norm._parameters)  # the objects themselves: weights may be shared, and are not copied
    plain._buffers.update(norm._buffers)
    if hasattr(activation, "inplace"):
        activation.inplace = False
    return plain.train(norm.training), None if isinstance(activation, nn.Identity) else activation


def _follow_mode(graph: fx.Graph) -> None:
    """Let functions that were traced with ``training=self.training`` follow the vertex's mode again."""
    # tracing was done in evaluation mode, so the graph holds the constant False in its place
    for node in graph.nodes:
        node.meta.pop("is_wrapped", None)  # makes torch.fx keep the frames of this import
        if node.op == "call_function" and node.kwargs.get("training") is False:
            with graph.inserting_before(node):
                node.update_kwarg("training", graph.create_node("get_attr", "training"))


def _function_name(node: fx.Node) -> str:
    return re.sub(r"\W", "", getattr(node.target, "__name__", str(node.target)).rsplit(".", 1)[-1]).strip("_")


def _operation_name(node: fx.Node) -> str:
    known = {operator.add: "Add", torch.cat: "Concatenate", operator.mul: "Multiply"}
    return known.get(node.target, _function_name(node).title().replace("_", ""))


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


# function or method -> module of the same meaning
_MODULE_FORMS: dict[Any, Callable[..., nn.Module]] = {
    torch.flatten: _flatten,
    "flatten": _flatten,
    torch.relu: nn.ReLU,
    torch.relu_: nn.ReLU,
    "relu": nn.ReLU,
    "relu_": nn.ReLU,
    nn.functional.relu: lambda inplace=False: nn.ReLU(),
    nn.functional.relu6: lambda inplace=False: nn.ReLU6(),
    nn.functional.gelu: lambda approximate="none": nn.GELU(approximate),
    nn.functional.silu: lambda inplace=False: nn.SiLU(),
    torch.sigmoid: nn.Sigmoid,
    "sigmoid": nn.Sigmoid,
    torch.tanh: nn.Tanh,
    "tanh": nn.Tanh,
    nn.functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    nn.functional.dropout: lambda p=0.5, training=True, inplace=False: nn.Dropout(p),
    nn.functional.dropout2d: lambda p=0.5, training=True, inplace=False: nn.Dropout2d(p),
}
