"""Import any traceable torch module as a `Network` of named vertices."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from tlkit.activations import is_activation
from tlkit.errors import near_misses
from tlkit.graph import Network, Vertex
from tlkit.layers import NORMS, WEIGHT_LAYERS, Layer, as_layer

__all__ = ["GRANULARITIES", "from_module", "take_over"]

GRANULARITIES = ("block", "layer")
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
POOLS = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)


def from_module(
    module: nn.Module, example_inputs: Sequence[Tensor] | None = None, granularity: str = "block"
) -> Network:
    """Import a copy of a torch module, traced with `torch.fx`; the original is left alone.

    Activations and batch normalization join the weight layer before them; dropout joins the layer behind it.
    In-place operations are switched off, so that no vertex overwrites the tensor that another one reads.

    Parameters
    ----------
    module : nn.Module
        Any module that `torch.fx` can trace, traced in evaluation mode (auxiliary training heads are left out).
    example_inputs : sequence of Tensor, optional
        One batch for each input; one image batch of shape (1, 3, 224, 224) if left out. Only shapes are used.
    granularity : {"block", "layer"}
        Whether a block (residual, attention, inception, ...) is one vertex, or opened into its layers.

    Raises
    ------
    ValueError
        When the module cannot be traced; the message names the line and the way out.

    Examples
    --------
    >>> from torch import nn
    >>> net = from_module(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), [torch.zeros(1, 4)])
    >>> list(net.vertices)
    ['0', '2']
    """
    return take_over(copy.deepcopy(module), example_inputs, granularity)


def take_over(
    module: nn.Module,
    example_inputs: Sequence[Tensor] | None = None,
    granularity: str = "block",
    rename: Callable[[str], str] | None = None,
) -> Network:
    """Import a module without copying it: the module itself is changed and should not be used afterwards."""
    if granularity not in GRANULARITIES:
        msg = f"granularity is 'block' or 'layer', got {granularity!r}.{near_misses(granularity, GRANULARITIES)}"
        raise ValueError(msg)
    module.eval()
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False
    if example_inputs is None:
        example_inputs = [torch.empty(1, 3, 224, 224, device="meta")]
    graph = _trace(module, granularity)
    tensors = _tensor_nodes(graph, module, example_inputs)
    builder = _Vertices(graph, module, tensors, rename or (lambda name: name))
    return builder.network(example_inputs)


# -- tracing --------------------------------------------------------------------------------------------------------


class _Tracer(fx.Tracer):
    """Opens containers and plain wrappers; keeps torch's layers and, at block granularity, blocks whole."""

    def __init__(self, granularity: str) -> None:
        super().__init__()
        self.granularity = granularity

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, CONTAINERS):
            return False
        if type(m).__module__.startswith("torch.nn") or isinstance(m, NORMS) or not any(m.children()):
            return True
        return self.granularity == "block" and _is_block(m)


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


def _trace(module: nn.Module, granularity: str) -> fx.Graph:
    try:
        return _Tracer(granularity).trace(module)
    except Exception as error:
        msg = (
            f"{type(module).__name__} cannot be traced: {error}. Python control flow that depends on a tensor cannot "
            "become a graph. Put the lines it happens in into a module of their own that holds no layers, or build "
            "the network vertex by vertex with tl.Network."
        )
        raise ValueError(msg) from error


class _Shapes(fx.Interpreter):
    """Runs a traced graph on shapes alone and records which nodes are tensors."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.tensors: set[fx.Node] = set()

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor) and n.op != "output":
            self.tensors.add(n)
        return value


class _OnShapes(nn.Module):
    """Lets `functional_call` put weights without values under an interpreter."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        super().__init__()
        self.module = module
        self.graph = graph

    def forward(self, *inputs: Tensor) -> set[fx.Node]:
        shapes = _Shapes(self.module, self.graph)
        shapes.run(*inputs)
        return shapes.tensors


def _tensor_nodes(graph: fx.Graph, module: nn.Module, example_inputs: Sequence[Tensor]) -> set[fx.Node]:
    runner = _OnShapes(module, graph)
    weights = {
        name: torch.empty_like(value, device="meta")
        for name, value in [*runner.named_parameters(), *runner.named_buffers()]
    }
    inputs = tuple(torch.empty_like(value, device="meta") for value in example_inputs)
    return torch.func.functional_call(runner, weights, inputs)


# -- from nodes to vertices -----------------------------------------------------------------------------------------


class _Vertices:
    """Walks the traced nodes and collects them into vertices."""

    def __init__(self, graph: fx.Graph, module: nn.Module, tensors: set[fx.Node], rename: Callable[[str], str]) -> None:
        self.graph = graph
        self.module = module
        self.rename = rename
        # get_attr nodes are tensors too, but they are weights of the vertex that reads them
        self.tensors = {node for node in tensors if node.op != "get_attr"}
        self.vertices: dict[str, Vertex] = {}
        self.name_of: dict[fx.Node, str] = {}
        self.pending: dict[fx.Node, tuple[fx.Node, nn.Module]] = {}  # dropout that waits for the layer behind it
        calls = [node.target for node in graph.nodes if node.op == "call_module"]
        self.shared = {target for target in calls if calls.count(target) > 1}
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
        answers = answer.values() if isinstance(answer, Mapping) else [answer]
        answers = [node for value in answers for node in (value if isinstance(value, (tuple, list)) else [value])]
        outputs = [self.name_of[node] for node in answers if node in self.tensors]
        recipe = {"source": {"module": f"{type(self.module).__module__}.{type(self.module).__qualname__}"}}
        return Network(self._read_only(outputs), inputs, outputs, recipe={**recipe, "edits": []})

    def _read_only(self, outputs: Sequence[str]) -> dict[str, Vertex]:
        """Drop vertices that nothing reads, such as auxiliary heads traced in evaluation mode."""
        read, todo = set(outputs), list(outputs)
        while todo:
            for other in self.vertices[todo.pop()].inputs:
                if other in self.vertices and other not in read:
                    read.add(other)
                    todo.append(other)
        return {name: vertex for name, vertex in self.vertices.items() if name in read}

    def add(self, node: fx.Node) -> None:
        part = self._part(node)
        before = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if isinstance(part, nn.Identity):
            self.name_of[node] = self.name_of[before]
        elif part is None:
            self._add_operation(node)
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
            simple = len(node.args) == 1 and not node.kwargs and node.args[0] in self.tensors
            return self.module.get_submodule(node.target) if simple else None
        form = _MODULE_FORMS.get(node.target) if node.op == "call_function" else None
        return form(*node.args[1:], **node.kwargs) if form and node.args and node.args[0] in self.tensors else None

    def _joins(self, part: nn.Module, before: fx.Node) -> bool:
        """Attach an activation or batch normalization to the layer before it, a flatten to its pooling."""
        owner = self.vertices.get(self.name_of.get(before, ""))
        if owner is None or before in self.pending or len(before.users) > 1:
            return False
        layer = owner.module
        if isinstance(part, nn.Flatten) and isinstance(layer, POOLS):
            return self._rename_to_flatten(before, part)
        if not isinstance(layer, Layer) or layer.activation is not None:
            return False
        if is_activation(part):
            layer.activation = part
            return True
        if isinstance(part, NORMS) and layer.norm is None:
            layer.norm, layer.activation = _norm_and_activation(part)
            return True
        return False

    def _rename_to_flatten(self, before: fx.Node, part: nn.Module) -> bool:
        old = self.vertices.pop(self.name_of[before])
        self.name_of[before] = self._free_name("flatten")
        self.vertices[self.name_of[before]] = Vertex(nn.Sequential(old.module, part), old.inputs)
        return True

    def _feeds_layer(self, node: fx.Node) -> bool:
        (user, *others) = [*node.users, None]
        if user is None or others != [None] or user.op != "call_module" or user.target in self.shared:
            return False
        return isinstance(self.module.get_submodule(user.target), WEIGHT_LAYERS)

    def _add_layer(self, node: fx.Node, part: nn.Module, before: fx.Node) -> None:
        layer = as_layer(part)
        if before in self.pending:
            before, layer.dropout = self.pending[before]
        self._add_module(node, layer, before)

    def _add_module(self, node: fx.Node, part: nn.Module, before: fx.Node) -> None:
        if id(part) in self.shared_done:
            part = _SharedCall(part)
        elif node.target in self.shared:
            self.shared_done.add(id(part))
        self._insert(node, part, [before])

    def _insert(self, node: fx.Node, part: nn.Module, inputs: Sequence[fx.Node]) -> None:
        hint = node.target if node.op == "call_module" else node.name
        name = self._free_name(self.rename(hint))
        self.vertices[name] = Vertex(part, tuple(self.name_of[other] for other in inputs))
        self.name_of[node] = name

    def _free_name(self, hint: str) -> str:
        base = name = hint.replace(".", "_")
        count = 1
        while name in self.vertices or name in self.name_of.values():
            count += 1
            name = f"{base}_{count}"
        return name

    def _add_operation(self, node: fx.Node) -> None:
        """Make one vertex of an operation, with the sizes, constants and weights that only it computes with."""
        inputs: list[fx.Node] = []
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        self._collect(node, inputs, top=True)
        for other in inputs:
            copies[other] = graph.placeholder(other.name)

        def copied(other: fx.Node) -> fx.Node:
            if other not in copies:
                copies[other] = graph.node_copy(other, copied)
            return copies[other]

        graph.output(copied(node))
        for other in graph.nodes:
            other.target = _out_of_place(other)
        operation = fx.GraphModule(self.module, graph, class_name=_operation_name(node))
        self._insert(node, operation, inputs)

    def _collect(self, node: fx.Node, inputs: list[fx.Node], *, top: bool = False) -> None:
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


def _norm_and_activation(norm: nn.Module) -> tuple[nn.Module, nn.Module | None]:
    """Take apart timm's batch normalization with an activation inside."""
    activation = getattr(norm, "act", None)
    if activation is None:
        return norm, None
    plain = nn.BatchNorm2d(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    plain._parameters.update(norm._parameters)
    plain._buffers.update(norm._buffers)
    return plain.train(norm.training), activation if is_activation(activation) else None


def _out_of_place(node: fx.Node) -> Any:
    if node.op == "call_method" and node.target.endswith("_") and not node.target.endswith("__"):
        return node.target.rstrip("_")
    return _OUT_OF_PLACE.get(node.target, node.target)


_OUT_OF_PLACE = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def _operation_name(node: fx.Node) -> str:
    if node.op == "call_function":
        return {operator.add: "Add", operator.iadd: "Add", torch.cat: "Concatenate", operator.mul: "Multiply"}.get(
            node.target, getattr(node.target, "__name__", "operation").strip("_").title().replace("_", "")
        )
    return str(node.target).rsplit(".", 1)[-1].strip("_").title().replace("_", "")


def _flatten(start_dim: int = 0, end_dim: int = -1) -> nn.Module:
    return nn.Flatten(start_dim, end_dim)


# function -> module of the same meaning; in evaluation mode functional dropout carries training=False
_MODULE_FORMS: dict[Any, Callable[..., nn.Module]] = {
    torch.flatten: _flatten,
    torch.relu: nn.ReLU,
    nn.functional.relu: lambda inplace=False: nn.ReLU(),
    nn.functional.relu6: lambda inplace=False: nn.ReLU6(),
    nn.functional.gelu: lambda approximate="none": nn.GELU(approximate),
    nn.functional.silu: lambda inplace=False: nn.SiLU(),
    torch.sigmoid: nn.Sigmoid,
    torch.tanh: nn.Tanh,
    nn.functional.adaptive_avg_pool2d: nn.AdaptiveAvgPool2d,
    nn.functional.dropout: lambda p=0.5, training=True, inplace=False: nn.Dropout(p),
}
