"""A faster form of the frozen part: batch normalization folded into convolutions, channels last."""

from __future__ import annotations

import copy

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tlkit.graph.network import Network, Vertex
from tlkit.layers.modules import NORMS, Layer

__all__ = ["fold"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def fold(network: Network) -> Network:
    """Return a frozen network with batch normalization folded and its convolutions laid out channels last.

    Only vertices with convolutions are copied; the others, such as VGG16's large `fc1`, are shared.
    """
    vertices = {
        name: Vertex(_fold_module(copy.deepcopy(vertex.module)), vertex.inputs) if _convolves(vertex.module) else vertex
        for name, vertex in network.vertices.items()
    }
    fast = Network(vertices, network.input_shapes, network.outputs, preprocessing=network.preprocessing)
    fast.freeze(*vertices)
    return fast.to(memory_format=torch.channels_last)


def _convolves(module: nn.Module) -> bool:
    return any(isinstance(part, CONVOLUTIONS) for part in module.modules())


def _fold_module(module: nn.Module) -> nn.Module:
    if isinstance(module, Layer):
        if isinstance(module, CONVOLUTIONS) and isinstance(module.norm, NORMS):
            return _fuse(module, module.norm)
        return module
    if not any(isinstance(part, NORMS) for part in module.modules()):
        return module
    try:
        graph = _Layers().trace(module)
    except Exception:  # a block that cannot be traced stays as it is
        return module
    block = fx.GraphModule(module, graph)
    for node in block.graph.nodes:
        _fold_node(block, node)
    return block


class _Layers(fx.Tracer):
    """Opens a block down to torch's own layers and batch normalization."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or isinstance(m, NORMS) or not any(m.children())


def _fold_node(block: fx.GraphModule, node: fx.Node) -> None:
    """Fold a batch normalization whose only source is a convolution that nothing else reads."""
    before = node.args[0] if node.op == "call_module" and node.args else None
    if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
        return
    convolution, norm = block.get_submodule(before.target), block.get_submodule(node.target)
    calls = [other.target for other in block.graph.nodes if other.op == "call_module"]
    once = calls.count(before.target) == calls.count(node.target) == 1
    if once and isinstance(convolution, CONVOLUTIONS) and isinstance(norm, NORMS):
        block.set_submodule(before.target, _fuse(convolution, norm))
        block.set_submodule(node.target, getattr(norm, "act", None) or nn.Identity())  # timm's norms hold an activation


def _fuse(convolution: nn.Module, norm: nn.Module) -> nn.Module:
    fused = fuse_conv_bn_eval(convolution, norm)
    if isinstance(fused, Layer):
        fused.norm = None
    return fused
