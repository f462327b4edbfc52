"""Convolutional networks written as ONNX by hand: in a tenth of a second, where torch.onnx takes seconds.

It knows the layers that image classifiers are made of, in evaluation mode, and refuses everything else; torch.onnx
takes over then. What it writes is only used after its answers were compared with the network's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers import BatchNormAct2d, DropPath
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp
from torch.nn import functional as F
from torchvision.ops import StochasticDepth

from tlkit.graph.network import Network
from tlkit.layers.modules import NORMS, Layer

__all__ = ["UnknownLayerError", "write_onnx"]

OPSET = 17  # of ONNX; what is written here means the same in later ones
WRITTEN_AS = {  # layers without weights or options
    nn.Hardswish: "HardSwish",
    nn.ReLU: "Relu",
    nn.Sigmoid: "Sigmoid",
    nn.Tanh: "Tanh",
    F.relu: "Relu",
    operator.add: "Add",
    operator.iadd: "Add",
    operator.mul: "Mul",
    torch.add: "Add",
    torch.mul: "Mul",
    torch.sigmoid: "Sigmoid",
}
KEEPING = (nn.Identity, nn.Dropout, nn.Dropout2d, StochasticDepth, DropPath)  # in evaluation mode
ONE, TWO = 1, (1, 1)  # a dilation, of a pooling layer as it is given


class UnknownLayerError(ValueError):
    """The network holds what is not written here."""


def write_onnx(network: Network, rows: int) -> bytes:
    """Return a network as the bytes of an ONNX file, for batches of exactly `rows` float images.

    Parameters
    ----------
    network : Network
        In evaluation mode on the CPU in float32; the file reads float images by the names of its inputs.
    rows : int
        Images in a batch.

    Raises
    ------
    UnknownLayerError
        When the network does anything that is not known here; the text says what.
    """
    if clash := [name for name in network.outputs if name in network.inputs]:
        msg = f"The input '{clash[0]}' is an answer too, and ONNX has one value of a name"
        raise UnknownLayerError(msg)
    module = network.to_module().eval()
    try:
        graph = fx.GraphModule(module, OpenToLayers().trace(module))
    except Exception as error:
        msg = f"The network cannot be traced: {error}"
        raise UnknownLayerError(msg) from error
    ShapeProp(graph).propagate(*(torch.zeros(1, *shape) for shape in network.input_shapes.values()))
    writer = _Writer(graph, network.inputs)
    for node in graph.graph.nodes:
        writer.write(node)
    return writer.to_bytes(network, rows)


class OpenToLayers(fx.Tracer):
    """Opens a module down to torch's own layers and batch normalization."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        # timm's convolutions with "same" padding are leaves too: how they pad depends on the size of the image
        return (
            super().is_leaf_module(m, module_qualified_name)
            or isinstance(m, (*NORMS, nn.Conv2d))
            or not any(m.children())
        )


class _Writer:
    """Writes the nodes of a traced network one by one."""

    def __init__(self, graph: fx.GraphModule, inputs: Sequence[str]) -> None:
        self.graph = graph
        self.inputs = iter(inputs)
        self.nodes: list[Any] = []
        self.weights: dict[str, Tensor] = {}
        self.names: dict[fx.Node, str] = {}
        self.answers: list[fx.Node] = []

    def write(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.names[node] = next(self.inputs)
        elif node.op == "output":
            self.answers = list(node.args[0]) if isinstance(node.args[0], (tuple, list)) else [node.args[0]]
        elif node.op == "call_module":
            self.names[node] = self.layer(self.graph.get_submodule(node.target), self.names[node.args[0]], node)
        elif node.op in ("call_function", "call_method"):
            self.names[node] = self.call(node)
        else:
            msg = f"'{node.target}' is a value of the network's own"
            raise UnknownLayerError(msg)

    def add(self, kind: str, *reads: str, **options: Any) -> str:
        from onnx import helper

        name = f"value.{len(self.nodes)}"  # no vertex has a dot in its name
        self.nodes.append(helper.make_node(kind, [*reads], [name], **options))
        return name

    def weight(self, value: Tensor) -> str:
        name = f"weight.{len(self.weights)}"
        self.weights[name] = value.detach().float() if value.is_floating_point() else value.detach()
        return name

    # -- layers -------------------------------------------------------------------------------------------------

    def layer(self, module: nn.Module, x: str, node: fx.Node) -> str:
        if isinstance(module, Layer):
            x = self.weighted(module, x, node)
            x = x if module.norm is None else self.layer(module.norm, x, node)
            return x if module.activation is None else self.layer(module.activation, x, node)
        kind = type(module)
        if kind in WRITTEN_AS:
            return self.add(WRITTEN_AS[kind], x)
        if isinstance(module, KEEPING):
            return x
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            return self.weighted(module, x, node)
        if isinstance(module, BatchNormAct2d):
            return self.layer(module.act, _write_norm(self, module, x, node), node)
        write = LAYERS.get(kind)
        if write is None:
            msg = f"{kind.__name__} is not known here"
            raise UnknownLayerError(msg)
        return write(self, module, x, node)

    def weighted(self, module: nn.Module, x: str, node: fx.Node) -> str:
        reads = [x, self.weight(module.weight)] + ([] if module.bias is None else [self.weight(module.bias)])
        if isinstance(module, nn.Linear):
            if len(_shape(node.args[0])) != 2:
                msg = "a linear layer reads more than one row an image"
                raise UnknownLayerError(msg)
            return self.add("Gemm", *reads, transB=1)
        return self.add(
            "Conv",
            *reads,
            strides=module.stride,
            pads=_padding(module, _shape(node.args[0])[-2:]),
            dilations=module.dilation,
            group=module.groups,
        )

    def clip(self, x: str, low: float, high: float) -> str:
        return self.add("Clip", x, *(self.weight(torch.tensor(limit)) for limit in (low, high)))

    def mean(self, x: str, axes: Sequence[int], keep: bool) -> str:
        return self.add("ReduceMean", x, axes=list(axes), keepdims=int(keep))

    # -- calls --------------------------------------------------------------------------------------------------

    def call(self, node: fx.Node) -> str:
        reads = [self.names[other] for other in node.args if isinstance(other, fx.Node)]
        only_nodes = len(reads) == len(node.args) and not node.kwargs
        if node.target in WRITTEN_AS and only_nodes:
            return self.add(WRITTEN_AS[node.target], *reads)
        if node.target in (torch.flatten, "flatten") and node.args[1:] in ((1,), (1, -1)) and not node.kwargs:
            return self.add("Flatten", *reads, axis=1)
        if node.target in (torch.mean, "mean"):
            axes, keep = (*node.args[1:], None, False)[:2] if node.args[1:] else (node.kwargs.get("dim"), False)
            keep = node.kwargs.get("keepdim", keep)
            if isinstance(axes, (tuple, list)):
                return self.mean(reads[0], [axis % len(_shape(node.args[0])) for axis in axes], keep)
        if node.target is torch.cat and isinstance(node.args[0], (tuple, list)):
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            return self.add("Concat", *(self.names[other] for other in node.args[0]), axis=axis)
        msg = f"{getattr(node.target, '__name__', node.target)}(...) is not known here"
        raise UnknownLayerError(msg)

    # -- the file -----------------------------------------------------------------------------------------------

    def to_bytes(self, network: Network, rows: int) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        def described(name: str, shape: Sequence[int]) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, [rows, *shape])

        answers = {name: _shape(node)[1:] for name, node in zip(network.outputs, self.answers, strict=True)}
        named = [
            helper.make_node("Identity", [self.names[node]], [name])
            for name, node in zip(answers, self.answers, strict=True)
        ]
        graph = helper.make_graph(
            [*self.nodes, *named],
            "network",
            [described(name, shape) for name, shape in network.input_shapes.items()],
            [described(name, shape) for name, shape in answers.items()],
            [numpy_helper.from_array(value.contiguous().numpy(), name) for name, value in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        return model.SerializeToString()


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _padding(module: nn.Conv2d, size: tuple[int, ...]) -> tuple[int, ...]:
    """Return the zeros around an image of some size: above, left, below, right."""
    kind = type(module).__name__
    if kind == "Conv2dSame" and type(module).__module__.startswith("timm."):
        steps = zip(size, module.kernel_size, module.stride, module.dilation, strict=True)
        around = [
            max((-(-n // stride) - 1) * stride + (k - 1) * dilation + 1 - n, 0) for n, k, stride, dilation in steps
        ]
        return (*(n // 2 for n in around), *(n - n // 2 for n in around))
    known = isinstance(module, Layer) or type(module) is nn.Conv2d
    if not known or module.padding_mode != "zeros" or isinstance(module.padding, str):
        msg = f"{kind} is not known here, or its padding"
        raise UnknownLayerError(msg)
    return (*module.padding, *module.padding)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def _write_norm(writer: _Writer, module: nn.Module, x: str, node: fx.Node) -> str:
    if module.running_mean is None:
        msg = "batch normalization without running statistics is not known here"
        raise UnknownLayerError(msg)
    scale = torch.ones_like(module.running_mean) if module.weight is None else module.weight
    shift = torch.zeros_like(module.running_mean) if module.bias is None else module.bias
    values = (scale, shift, module.running_mean, module.running_var)
    return writer.add("BatchNormalization", x, *map(writer.weight, values), epsilon=module.eps)


def _write_adaptive(writer: _Writer, module: nn.AdaptiveAvgPool2d, x: str, node: fx.Node) -> str:
    size, found = _pair(module.output_size), _shape(node.args[0])[-2:]
    if size == (1, 1):
        return writer.add("GlobalAveragePool", x)
    if size == found:
        return x
    msg = f"pooling from {found} to {size} is not known here"
    raise UnknownLayerError(msg)


def _write_pool(writer: _Writer, module: nn.MaxPool2d | nn.AvgPool2d, x: str, node: fx.Node) -> str:
    options = {
        "kernel_shape": _pair(module.kernel_size),
        "strides": _pair(module.stride),
        "pads": _pair(module.padding) * 2,
        "ceil_mode": int(module.ceil_mode),
    }
    if isinstance(module, nn.AvgPool2d):
        evenly = all(
            (n - k) % s == 0
            for n, k, s in zip(_shape(node.args[0])[-2:], options["kernel_shape"], options["strides"], strict=True)
        )
        if module.divisor_override or (module.ceil_mode and not (evenly and options["pads"] == (0, 0, 0, 0))):
            msg = "average pooling with a divisor, or over incomplete windows, is not known here"
            raise UnknownLayerError(msg)
        return writer.add("AveragePool", x, **options, count_include_pad=int(module.count_include_pad))
    if module.return_indices or module.dilation not in (ONE, TWO):
        msg = "maximum pooling with a dilation is not known here"
        raise UnknownLayerError(msg)
    return writer.add("MaxPool", x, **options)


def _write_flatten(writer: _Writer, module: nn.Flatten, x: str, node: fx.Node) -> str:
    if (module.start_dim, module.end_dim) != (1, -1):
        msg = "flattening some dimensions only is not known here"
        raise UnknownLayerError(msg)
    return writer.add("Flatten", x, axis=1)


LAYERS: dict[type, Callable[[_Writer, Any, str, fx.Node], str]] = {
    nn.AdaptiveAvgPool2d: _write_adaptive,
    nn.AvgPool2d: _write_pool,
    nn.BatchNorm2d: _write_norm,
    nn.Flatten: _write_flatten,
    nn.Hardsigmoid: lambda writer, module, x, node: writer.add("HardSigmoid", x, alpha=1 / 6, beta=0.5),
    nn.Hardtanh: lambda writer, module, x, node: writer.clip(x, module.min_val, module.max_val),
    nn.LeakyReLU: lambda writer, module, x, node: writer.add("LeakyRelu", x, alpha=module.negative_slope),
    nn.MaxPool2d: _write_pool,
    nn.ReLU6: lambda writer, module, x, node: writer.clip(x, 0.0, 6.0),
    nn.SiLU: lambda writer, module, x, node: writer.add("Mul", x, writer.add("Sigmoid", x)),
}
